// Maps that do not agree with themselves: what is sound goes on, the rest is replaced without touching what others use.
import { describe, expect, test } from "vitest";
import { createModel } from "../../src/model/model.ts";
import type { KernelState, Operation, Row } from "../../src/model/operations.ts";
import { endpoint, eventsOf, node, service, slice } from "../flows/builders.ts";
import { bench, CAPACITY } from "./setup.ts";

const OBJECTS = {
  nodes: [node(1), node(2)],
  services: [service(), service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"] })],
  slices: [
    slice({ endpoints: [endpoint("10.244.1.2"), endpoint("10.244.2.2", "node2")] }),
    slice({ service: "other", endpoints: [endpoint("10.244.1.3")] }),
  ],
};

/** "web": service 1, row 0, backends 0 and 1, slots 0 and 1. "other": service 2, row 1, backend 2, slot 2. */
function sound(): KernelState {
  const { feed, maps } = bench();
  feed(OBJECTS);
  return maps.readState();
}

function planOver(state: KernelState): Operation[] {
  const model = createModel({ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] });
  model.update(eventsOf(OBJECTS));
  model.adopt(state);
  return model.plan().filter(({ op }) => op !== "set-service-ranges");
}

function withRow(state: KernelState, index: number, change: (row: Row) => Row): KernelState {
  return { ...state, rows: new Map(state.rows).set(index, change(state.rows.get(index)!)) };
}

const names = (operations: readonly Operation[]): string[] => operations.map(({ op }) => op);

describe("adoption", () => {
  test("of sound maps leaves nothing to do", () => {
    expect(planOver(sound())).toEqual([]);
  });

  test("of a slot that shows another Service's backend lays the slots out anew and keeps the backends", () => {
    const state = sound();
    const torn = { ...state, slot: (at: number) => (at === 1 ? state.slot(2) : state.slot(at)) };
    const operations = planOver(torn);
    expect(names(operations)).toEqual(["grace", "put-slots", "set-windows", "grace", "free-slots"]);
    expect(operations[1]).toMatchObject({ first: 3, backends: Uint32Array.of(0, 1) });
  });

  test("of a slot with a stale generation lays the slots out anew", () => {
    const state = sound();
    const torn = { ...state, slot: (at: number) => (at === 0 ? { backend: 0, generation: 9 } : state.slot(at)) };
    expect(names(planOver(torn))).toEqual(["grace", "put-slots", "set-windows", "grace", "free-slots"]);
  });

  test("of a window over another Service's slots never frees those", () => {
    const wide = { first: 0, count: 3, whenEmpty: "refuse" } as const;
    const state = withRow(sound(), 1, (row) => ({
      ...row,
      windows: { external: wide, internal: wide, cluster: wide },
    }));
    const operations = planOver(state);
    expect(names(operations)).toEqual(["grace", "put-slots", "set-windows"]);
    expect(operations[2]).toMatchObject({ index: 1, windows: { cluster: { first: 2, count: 1 } } });
  });

  test("of a window beyond the map ignores it", () => {
    const beyond = { first: CAPACITY.slots - 1, count: 5, whenEmpty: "refuse" } as const;
    const state = withRow(sound(), 1, (row) => ({ ...row, windows: { ...row.windows, external: beyond } }));
    expect(names(planOver(state))).toContain("set-windows");
  });

  test.each<{ name: string; change: (state: KernelState) => KernelState }>([
    { name: "is not there", change: (state) => ({ ...state, rows: new Map([[1, state.rows.get(1)!]]) }) },
    { name: "has another generation", change: (state) => withRow(state, 0, (row) => ({ ...row, generation: 7 })) },
    {
      name: "has another key",
      change: (state) => withRow(state, 0, (row) => ({ ...row, key: { ...row.key, port: 81 } })),
    },
    { name: "has no service id", change: (state) => withRow(state, 0, (row) => ({ ...row, serviceId: 0 })) },
  ])("of a frontend whose row $name replaces the row and never the frontend's presence", ({ change }) => {
    const operations = planOver(change(sound()));
    expect(names(operations)).toContain("put-row");
    expect(names(operations)).toContain("put-frontend");
    expect(names(operations)).not.toContain("drop-frontend");
    expect(operations.find(({ op }) => op === "put-row")).toMatchObject({ row: { key: { port: 80 } } });
  });

  test("of a frontend that nobody wants and that has no row drops it", () => {
    const state = sound();
    const key = { address: "10.96.0.99", port: 80, protocol: "TCP" } as const;
    const stray = { ...state, frontends: [...state.frontends, { key, row: 9, generation: 3 }] };
    expect(planOver(stray)).toEqual([{ op: "drop-frontend", key }]);
  });

  test("of a backend that is in no slot retires and frees it", () => {
    const state = sound();
    const stray = { address: "10.244.9.9", port: 8080, serviceId: 1, generation: 4, local: false, windows: 0 };
    const operations = planOver({ ...state, backends: new Map(state.backends).set(9, stray) });
    expect(operations).toEqual([
      { op: "retire-backend", index: 9, generation: 5, udp: false },
      { op: "grace" },
      { op: "free-backend", index: 9 },
    ]);
  });

  test("of a backend twice keeps the one in the slots", () => {
    const state = sound();
    const operations = planOver({
      ...state,
      backends: new Map(state.backends).set(9, { ...state.backends.get(0)!, generation: 4 }),
    });
    expect(operations.map((one) => ("index" in one ? `${one.op} ${one.index}` : one.op))).toEqual([
      "retire-backend 9",
      "grace",
      "free-backend 9",
    ]);
  });

  test("waits before it puts anything where something may have been retired just before", () => {
    const operations = planOver({ ...sound(), backends: new Map() });
    expect(operations[0]).toEqual({ op: "grace" });
  });
});
