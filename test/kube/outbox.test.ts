// Messages to the main loop: how large, how many at a time, and when.
import { describe, expect, it } from "vitest";
import { createOutbox, type Outbox } from "../../src/kube/outbox.ts";
import type { Change } from "../../src/kube/row.ts";
import { takeSlice } from "../../src/kube/slice-row.ts";
import { createManualClock, type ManualClock } from "./manual-clock.ts";
import { slice } from "./objects.ts";

interface Setup {
  readonly outbox: Outbox;
  readonly clock: ManualClock;
  readonly sent: { readonly keys: readonly string[]; readonly endpoints: number; readonly synced: boolean }[];
}

function setup(): Setup {
  const clock = createManualClock();
  const sent: Setup["sent"] = [];
  const outbox = createOutbox({
    clock,
    send: (changes, synced) =>
      void sent.push({
        keys: changes.map(({ key }) => key),
        endpoints: changes.reduce((sum, one) => sum + endpointsOf(one), 0),
        synced,
      }),
  });
  return { outbox, clock, sent };
}

function endpointsOf(change: Change): number {
  return change.kind === "EndpointSlice" ? (change.content?.addresses.length ?? 0) : 0;
}

function sliceOf(name: string, endpoints: number): Change {
  const addresses = Array.from({ length: endpoints }, (_, i) => `10.244.${i >> 8}.${i & 255}`);
  const taken = takeSlice(slice(name, { addresses }));
  if (taken.outcome !== "taken") throw new Error("not taken");
  return taken.change;
}

describe("the outbox", () => {
  it("fills messages up to 1,000 endpoints, and sends two ahead of what was taken in", async () => {
    const { outbox, sent } = setup();
    for (let i = 0; i < 25; i++) outbox.add(sliceOf(`s${i}`, 100));
    expect(sent.map(({ endpoints }) => endpoints)).toEqual([900, 900]);
    expect(outbox.room()).toBeUndefined();
    for (let i = 25; i < 35; i++) outbox.add(sliceOf(`s${i}`, 100));
    expect(sent).toHaveLength(2);
    let hasRoom = false;
    const room = outbox.room()?.then(() => {
      hasRoom = true;
    });
    expect(room).toBeDefined();
    outbox.acknowledged();
    await room;
    expect(hasRoom).toBe(true);
    expect(sent).toHaveLength(3);
  });

  it("sends a slice that is larger than a message by itself", () => {
    const { outbox, sent } = setup();
    outbox.add(sliceOf("small", 1));
    outbox.add(sliceOf("large", 3000));
    outbox.add(sliceOf("next", 1));
    expect(sent.map(({ keys }) => keys)).toEqual([["default/small"], ["default/large"]]);
  });

  it("gathers what comes within two milliseconds once everything was listed", async () => {
    const { outbox, sent, clock } = setup();
    outbox.add(sliceOf("a", 1));
    await clock.advance(20);
    expect(sent).toHaveLength(0);
    outbox.synced();
    expect(sent).toEqual([{ keys: ["default/a"], endpoints: 1, synced: true }]);
    outbox.add(sliceOf("b", 1));
    await clock.advance(1);
    outbox.add(sliceOf("c", 1));
    await clock.advance(1);
    expect(sent.at(-1)?.keys).toEqual(["default/b", "default/c"]);
    await clock.advance(100);
    expect(sent).toHaveLength(2);
  });

  it("says that everything was listed after all that was, though nothing was", () => {
    const { outbox, sent } = setup();
    for (let i = 0; i < 30; i++) outbox.add(sliceOf(`s${i}`, 100));
    outbox.synced();
    for (let i = 0; i < 4; i++) outbox.acknowledged();
    expect(sent.map(({ synced }) => synced)).toEqual([false, false, false, true]);
    const empty = setup();
    empty.outbox.synced();
    expect(empty.sent).toEqual([{ keys: [], endpoints: 0, synced: true }]);
  });
});
