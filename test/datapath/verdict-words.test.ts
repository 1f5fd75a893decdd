import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { HOOK_VALUES, VERDICT_VALUES } from "../../src/datapath/layout.gen.ts";
import { canRefuse, HOOKS, isRefusal, VERDICT_MEANINGS, VERDICTS } from "../../src/datapath/verdict-words.ts";

describe("the words for verdicts", () => {
  it("are those of docs/packet-paths.md", () => {
    const page = readFileSync(resolve(import.meta.dirname, "../../docs/packet-paths.md"), "utf8");
    const rows = [...page.matchAll(/^\| `((?:VERDICT|DROP)_\w+)` \| (.*) \|$/gm)].map((row) => [row[1], row[2]]);
    expect(Object.fromEntries(rows)).toEqual(VERDICT_MEANINGS);
  });

  it("are there for every value of the enums, under the names of metrics", () => {
    expect(VERDICTS).toHaveLength(VERDICT_VALUES.VERDICT_MAX);
    expect(HOOKS).toHaveLength(HOOK_VALUES.HOOK_MAX - 1);
    expect(VERDICTS.filter(({ name }) => isRefusal(name)).map(({ value }) => value)).toEqual(
      Object.entries(VERDICT_VALUES)
        .filter(([name]) => name === "VERDICT_REFUSE" || name.startsWith("DROP_"))
        .map(([, value]) => value),
    );
  });

  it("tell which refusals count from 0 at which hook", () => {
    const at = (hook: string) => VERDICTS.filter(({ name }) => canRefuse(hook, name)).map(({ name }) => name);
    expect(at("connect")).toEqual(["refuse"]);
    expect(at("recvmsg")).toEqual([]);
    expect(at("xdp")).toEqual(["drop_rewrite"]);
    const drops = Object.keys(VERDICT_VALUES).filter((name) => name.startsWith("DROP_")).length;
    for (const hook of ["uplink_ingress", "uplink_egress", "pod_ingress", "pod_egress"])
      expect(at(hook)).toHaveLength(drops + 1);
  });
});
