// When the maps of another build's layout go: not before every link runs this build's programs.
import { expect, it, test } from "vitest";
import { leaveOldLayouts, takeOver } from "../../src/agent/take-over.ts";
import type { BuildBefore } from "../../src/datapath/attach.ts";

function bench(state: { devices: boolean; sockets: boolean; whole: boolean }) {
  const done: string[] = [];
  let stopOpening = (): void => {};
  const does = (what: string) => () => void done.push(what);
  return {
    done,
    loaded: {
      replacesLayout: true,
      catchUp: does("catch up"),
      stopOpening: does("stop opening"),
      removeOldLayouts: does("remove old layouts"),
    },
    attachments: {
      beginHandover(before: BuildBefore) {
        done.push("begin");
        stopOpening = before.stopOpening;
      },
      finishHandover() {
        stopOpening();
        done.push("finish");
      },
    },
    reconciler: {
      setHandover: (on: boolean) => void done.push(`handover ${on}`),
      turn: does("turn"),
      works: (name: string) => (name === "devices" ? state.devices : state.sockets),
    },
    network: { isWhole: () => state.whole },
  };
}
const ALL = { devices: true, sockets: true, whole: true };

it("both builds' programs run until everything is caught up with, then the old maps go", () => {
  const { done, loaded, attachments, reconciler, network } = bench(ALL);
  expect(takeOver(loaded, attachments, reconciler, network)).toBe(true);
  const switched = ["handover true", "begin", "catch up", "turn", "catch up", "stop opening", "finish"];
  expect(done).toEqual([...switched, "handover false", "turn", "remove old layouts"]);
});

test.each([
  ["one device could not be switched", { ...ALL, whole: false }],
  ["the devices failed altogether", { ...ALL, devices: false }],
  ["the sockets failed", { ...ALL, sockets: false }],
])("old maps stay while %s, and go when that is mended", (_name, state) => {
  const now = { ...state };
  const { done, loaded, attachments, reconciler, network } = bench(now);
  expect(takeOver(loaded, attachments, reconciler, network)).toBe(false);
  expect(done).not.toContain("stop opening");
  expect(done).not.toContain("remove old layouts");
  expect(leaveOldLayouts(loaded, reconciler, network)).toBe(false);
  Object.assign(now, ALL);
  expect(leaveOldLayouts(loaded, reconciler, network)).toBe(true);
  expect(done.at(-1)).toBe("remove old layouts");
});
