// How a change comes into the maps: once, counted once, in parts where everything is compared.
import { expect, it, vi } from "vitest";
import { createMaps } from "../../src/agent/maps.ts";
import { createSyncRecorder } from "../../src/agent/sync-stats.ts";
import { Failure } from "../../src/lib/errors.ts";
import type { Operation } from "../../src/model/operations.ts";

const GRACE: Operation = { op: "grace" };

/** A model with so many parts of work, and a kernel that takes them. */
function bench() {
  let left = 1;
  const limits: (number | undefined)[] = [];
  const model = {
    adopt: vi.fn(() => {
      left = 3;
    }),
    isDirty: () => left > 0,
    plan(limit?: number) {
      limits.push(limit);
      left = limit === undefined ? 0 : left - 1;
      return [GRACE];
    },
  };
  const apply = vi.fn(async (_operations: readonly Operation[], inForce?: () => void) => inForce?.());
  const dataplane = { apply, readState: vi.fn(() => ({}) as never) };
  const syncs = createSyncRecorder();
  const told: string[] = [];
  const maps = createMaps({
    ...{ model, dataplane, syncs },
    digest: () => "d",
    inForce: () => told.push("in force"),
    retired: () => told.push("retired"),
    firstDone: () => told.push("first"),
    broken: () => told.push("broken"),
  });
  return { maps, model, dataplane, syncs, told, limits, dirty: () => left++ };
}

it("what came during an apply and was part of it is not applied again", async () => {
  const { maps, dataplane, syncs, told, dirty } = bench();
  dataplane.apply.mockImplementationOnce(async (_, inForce) => {
    dirty();
    inForce?.();
  });
  await maps.apply();
  await maps.apply();
  expect(dataplane.apply).toHaveBeenCalledTimes(2);
  expect([maps.state.applies.total, syncs.stats.all.count]).toEqual([2, 2]);
  expect(told).toEqual(["retired", "in force", "first", "in force"]);
});

it("a failure is counted and said, and what follows compares everything in parts", async () => {
  const { maps, model, dataplane, limits, dirty } = bench();
  await maps.apply();
  dirty();
  dataplane.apply.mockRejectedValueOnce(new Failure("kernel", "rows", "could not update rows"));
  await expect(maps.apply()).rejects.toThrow("could not update rows");
  expect(maps.state).toMatchObject({ lastApply: { error: "could not update rows" }, applies: { total: 1, failed: 1 } });
  expect(model.adopt).not.toHaveBeenCalled();
  await maps.apply();
  expect([model.adopt.mock.calls.length, limits]).toEqual([1, [800, undefined, 800, 800, 800]]);
  expect(maps.state).toMatchObject({ lastApply: { error: "", operations: 3 }, applies: { total: 2, failed: 1 } });
});

it("an error that is none of the kernel's ends the agent", async () => {
  const { maps, dataplane, told } = bench();
  dataplane.apply.mockRejectedValueOnce(new TypeError("a defect"));
  await expect(maps.apply()).rejects.toThrow("a defect");
  expect(told).toEqual(["broken"]);
});

it("sockets of backends that left are looked for at the start, and when a backend is retired", async () => {
  const { maps, model, told, dirty } = bench();
  await maps.apply();
  dirty();
  await maps.apply();
  expect(told.filter((what) => what === "retired")).toHaveLength(1);
  vi.spyOn(model, "plan").mockImplementationOnce(() => {
    model.plan();
    return [{ op: "retire-backend", index: 1, generation: 2, udp: true }];
  });
  dirty();
  await maps.apply();
  expect(told.filter((what) => what === "retired")).toHaveLength(2);
});
