import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Checksums, createFarEnds, type FarEndWorld, farEndChecksums } from "../../src/agent/far-end.ts";

const OFF = "Features for x:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-ipv4: off [fixed]\n";
const ON = OFF.replace("tx-checksumming: off", "tx-checksumming: on");

/** Two namespaces, of which the second is number 5 here; every device in them says `said`. */
function world(said: string): FarEndWorld {
  const commands: Record<string, string> = { "ethtool -k host7": said };
  return {
    namespaces: () => ["/run/netns/a", "/proc/9/ns/net"],
    numberOf: (path) => (path === "/proc/9/ns/net" ? 5 : undefined),
    deviceName: (netns, ifindex) => (netns === 5 && ifindex === 7 ? "host7" : undefined),
    async run(namespace, ...words) {
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
  ] as const)("%s", async (_name, farEnd, said, expected) => {
    expect(await farEndChecksums({ farEnd }, here, world(said))).toBe(expected);
  });

  it("is unknown when nothing can be run there", async () => {
    const broken: FarEndWorld = {
      ...world(OFF),
      async run() {
        throw new Error("no ethtool");
      },
    };
    expect(await farEndChecksums({ farEnd: { ifindex: 7, netns: 5 } }, here, broken)).toBe("unknown");
  });
});

describe("what is known of far ends", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const device = { ifindex: 2, farEnd: { ifindex: 7, netns: undefined } };

  function bench() {
    const answers: Checksums[] = [];
    const stopping = new AbortController();
    const ask = vi.fn(async () => answers.shift()!);
    const farEnds = createFarEnds(stopping.signal, ask);
    const changed = vi.fn();
    farEnds.onChange(changed);
    return { answers, stopping, ask, farEnds, changed, look: () => farEnds.look(device, here) };
  }

  it("is the last answer while it is asked again, and changes are told", async () => {
    const { answers, ask, changed, look } = bench();
    answers.push("partial", "partial", "whole");
    expect(look()).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect([look(), ask.mock.calls.length, changed.mock.calls.length]).toEqual(["partial", 1, 1]);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(look()).toBe("partial");
    await vi.advanceTimersByTimeAsync(10_000);
    expect([look(), ask.mock.calls.length, changed.mock.calls.length]).toEqual(["partial", 3, 1]);
    await vi.advanceTimersByTimeAsync(1);
    expect([look(), changed.mock.calls.length]).toEqual(["whole", 2]);
  });

  it("is nothing of a device that went, and is told to nobody at the end", async () => {
    const { answers, stopping, farEnds, changed, look } = bench();
    answers.push("whole", "partial");
    look();
    farEnds.keep(new Set([3]));
    await vi.advanceTimersByTimeAsync(1);
    expect([farEnds.known(2), changed.mock.calls.length]).toEqual([undefined, 0]);
    look();
    stopping.abort();
    await vi.advanceTimersByTimeAsync(1);
    expect(changed).not.toHaveBeenCalled();
  });
});
