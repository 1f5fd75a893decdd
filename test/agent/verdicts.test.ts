import { describe, expect, it } from "vitest";
import { readVerdicts } from "../../src/agent/agent-view.ts";
import type { Dataplane } from "../../src/datapath/dataplane.ts";
import { HOOK_VALUES, VERDICT_VALUES } from "../../src/datapath/layout.gen.ts";
import { possibleCpus } from "../../src/libbpf/mod.ts";

const { VERDICT_MAX } = VERDICT_VALUES;

/** Counts of the last CPU by index in `verdicts`. */
function dataplaneOf(counts: Readonly<Record<number, number>>): Dataplane {
  const valueBytes = possibleCpus() * 8;
  const map = {
    valueBytes,
    lookupInto(key: Uint8Array, value: Uint8Array): boolean {
      const index = new DataView(key.buffer).getUint32(0, true);
      value.fill(0);
      new DataView(value.buffer).setBigUint64(valueBytes - 8, BigInt(counts[index] ?? 0), true);
      return true;
    },
  };
  return { map: () => map } as unknown as Dataplane;
}

describe("counters by hook and verdict", () => {
  it("have every refusal and drop from 0, and all else from its first", () => {
    const none = readVerdicts(dataplaneOf({}));
    expect(none.every(({ packets }) => packets === 0)).toBe(true);
    expect(none).toContainEqual({ hook: "uplink_ingress", verdict: "drop_no_route", packets: 0 });
    expect(none).toContainEqual({ hook: "connect", verdict: "refuse", packets: 0 });
    expect(none.filter(({ verdict }) => !/^(?:drop_|refuse$)/.test(verdict))).toEqual([]);
    expect(none.filter(({ hook }) => hook === "recvmsg")).toEqual([]);
    const counted = readVerdicts(
      dataplaneOf({
        [HOOK_VALUES.HOOK_XDP * VERDICT_MAX + VERDICT_VALUES.VERDICT_FORWARD]: 5,
        [HOOK_VALUES.HOOK_POD_EGRESS * VERDICT_MAX + VERDICT_VALUES.DROP_TTL]: 7,
      }),
    );
    expect(counted).toHaveLength(none.length + 1);
    expect(counted).toContainEqual({ hook: "xdp", verdict: "forward", packets: 5 });
    expect(counted).toContainEqual({ hook: "pod_egress", verdict: "drop_ttl", packets: 7 });
  });
});
