// The check word of a flow, by numbers that a C program reckoned with the formula of bpf/flow.h, and the hooks of each path.
import { describe, expect, it } from "vitest";
import { flowCheck, pathHook, sealFlow } from "../../src/datapath/flow-check.ts";
import { FLOW, FLOW_PATH_VALUES, HOOK_VALUES, TUPLE } from "../../src/datapath/layout.gen.ts";

/** Bytes that count up, and what was changed of them. */
function entry(change: (key: Uint8Array, flow: Uint8Array) => void = () => {}) {
  const key = Uint8Array.from({ length: TUPLE.size }, (_, i) => i * 7 + 1);
  const flow = Uint8Array.from({ length: FLOW.size }, (_, i) => i * 13 + 5);
  change(key, flow);
  return { key: new DataView(key.buffer), flow: new DataView(flow.buffer) };
}

function filled(byte: number) {
  return entry((key, flow) => {
    key.fill(byte);
    flow.fill(byte);
  });
}

function flip(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at]! ^= bits;
}

describe("flowCheck", () => {
  it.each([
    ["of zeros", filled(0), 0],
    ["of ones", filled(255), 0x419cdfbb],
    ["of bytes that count up", entry(), 0xf1daa387],
    ["with another generation", entry((_, flow) => flip(flow, FLOW.generation, 1)), 0x3d6bd408],
    ["of the other direction", entry((_, flow) => flip(flow, FLOW.answer, 1)), 0xfd2e7910],
    ["at another hook", entry((key) => flip(key, TUPLE.hook, 3)), 0xceea5c87],
    ["with another next hop, which it does not cover", entry((_, flow) => flip(flow, 80, 9)), 0xf1daa387],
  ] as const)("%s", (_, { key, flow }, check) => {
    expect(flowCheck(key, 0, flow, 0)).toBe(check);
  });

  it("is the same wherever the entry lies", () => {
    const { key, flow } = entry();
    const keys = new Uint8Array(3 * TUPLE.size);
    const flows = new Uint8Array(3 * FLOW.size);
    keys.set(new Uint8Array(key.buffer), TUPLE.size);
    flows.set(new Uint8Array(flow.buffer), FLOW.size);
    expect(flowCheck(new DataView(keys.buffer), TUPLE.size, new DataView(flows.buffer), FLOW.size)).toBe(0xf1daa387);
  });
});

describe("sealFlow", () => {
  const hooks = (path: keyof typeof FLOW_PATH_VALUES): readonly number[] => [
    pathHook(FLOW_PATH_VALUES[path], false),
    pathHook(FLOW_PATH_VALUES[path], true),
  ];
  const { HOOK_UPLINK_INGRESS: IN, HOOK_UPLINK_EGRESS: OUT, HOOK_POD_INGRESS, HOOK_POD_EGRESS } = HOOK_VALUES;

  it.each([
    ["PATH_OUTSIDE_LOCAL", IN, OUT],
    ["PATH_OUTSIDE_REMOTE", IN, IN],
    ["PATH_POD", HOOK_POD_INGRESS, HOOK_POD_EGRESS],
    ["PATH_HAIRPIN", HOOK_POD_INGRESS, HOOK_POD_INGRESS],
    ["PATH_HOST_REMOTE", OUT, IN],
    ["PATH_HOST_LOCAL", OUT, HOOK_POD_INGRESS],
    ["PATH_PORT_CHANGE", OUT, IN],
  ] as const)("gives %s its hooks", (path, request, answer) => {
    expect(hooks(path)).toEqual([request, answer]);
    for (const answers of [0, 1]) {
      const { key, flow } = entry((_, bytes) => {
        bytes[FLOW.path] = FLOW_PATH_VALUES[path];
        bytes[FLOW.answer] = answers;
      });
      expect(sealFlow(key, 0, flow, 0)).toBe(true);
      expect(key.getUint8(TUPLE.hook)).toBe(answers ? answer : request);
      expect(flow.getUint8(FLOW.write + TUPLE.hook)).toBe(answers ? request : answer);
      expect(flow.getUint32(FLOW.check, true)).toBe(flowCheck(key, 0, flow, 0));
    }
  });

  it("knows the hooks of every path", () => {
    const paths = Object.keys(FLOW_PATH_VALUES).filter((name) => !["PATH_NONE", "PATH_MAX"].includes(name));
    for (const path of paths)
      expect(hooks(path as keyof typeof FLOW_PATH_VALUES), path).not.toContain(HOOK_VALUES.HOOK_NONE);
  });

  it("refuses what has no path", () => {
    const { key, flow } = entry((_, bytes) => {
      bytes[FLOW.path] = FLOW_PATH_VALUES.PATH_NONE;
    });
    expect(sealFlow(key, 0, flow, 0)).toBe(false);
  });
});
