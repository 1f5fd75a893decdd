import { describe, expect, it } from "vitest";
import { type FarEndWorld, farEndChecksums } from "../../src/agent/far-end.ts";

const OFF = "Features for x:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-ipv4: off [fixed]\n";
const ON = OFF.replace("tx-checksumming: off", "tx-checksumming: on");

/** Two namespaces, of which the second is number 5 here; every device in them says `said`. */
function world(said: string): FarEndWorld {
  const commands: Record<string, string> = { "ethtool -k host7": said };
  return {
    namespaces: () => ["/run/netns/a", "/proc/9/ns/net"],
    numberOf: (path) => (path === "/proc/9/ns/net" ? 5 : undefined),
    deviceName: (netns, ifindex) => (netns === 5 && ifindex === 7 ? "host7" : undefined),
    run(namespace, ...words) {
      const answer = commands[words.join(" ")];
      if (answer === undefined || (namespace !== "" && namespace !== "/proc/9/ns/net")) throw new Error("refused");
      return answer;
    },
  };
}

const here = [{ ifindex: 7, name: "host7" }];

describe("a veth's far end", () => {
  it.each([
    ["makes whole checksums in a namespace that a process is in", { ifindex: 7, netns: 5 }, OFF, "whole"],
    ["leaves them to be completed in another namespace", { ifindex: 7, netns: 5 }, ON, "partial"],
    ["makes whole ones in this namespace", { ifindex: 7, netns: undefined }, OFF, "whole"],
    ["leaves them to be completed in this namespace", { ifindex: 7, netns: undefined }, ON, "partial"],
    ["is unknown in a namespace that nobody shows", { ifindex: 7, netns: 6 }, OFF, "unknown"],
    ["is unknown when it is not where it is said to be", { ifindex: 8, netns: 5 }, OFF, "unknown"],
    ["is unknown when it is not in this namespace", { ifindex: 8, netns: undefined }, OFF, "unknown"],
    ["is unknown when ethtool says something else", { ifindex: 7, netns: 5 }, "", "unknown"],
    ["is unknown without one", undefined, OFF, "unknown"],
  ] as const)("%s", (_name, farEnd, said, expected) => {
    expect(farEndChecksums({ farEnd }, here, world(said))).toBe(expected);
  });

  it("is unknown when nothing can be run there", () => {
    const broken: FarEndWorld = {
      ...world(OFF),
      run() {
        throw new Error("no ethtool");
      },
    };
    expect(farEndChecksums({ farEnd: { ifindex: 7, netns: 5 } }, here, broken)).toBe("unknown");
  });
});
