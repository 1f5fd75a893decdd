// Readings of the network: one runs, one waits, and none overtakes another.
import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { oneAfterAnother } from "../../src/agent/network.ts";

/** Readings that end when the test says so; two at once are a fault. */
function readings() {
  const ends: ((fail?: Error) => void)[] = [];
  let running = 0;
  const read = oneAfterAnother(async () => {
    if (++running > 1) throw new Error("two at once");
    const number = ends.length + 1;
    try {
      await new Promise<void>((resolve, reject) => ends.push((fail) => (fail ? reject(fail) : resolve())));
      return number;
    } finally {
      running--;
    }
  });
  const end = async (number: number, fail?: Error): Promise<void> => {
    ends[number - 1]?.(fail);
    await setImmediate();
  };
  return { read, end, begun: () => ends.length };
}

it("a burst of questions is two readings, and whoever asked during the first gets what was read after he asked", async () => {
  const { read, end, begun } = readings();
  const order: string[] = [];
  const asked = ["a", "b", "c"].map(async (who) => order.push(`${who}${await read()}`));
  expect(begun()).toBe(1);
  await end(1);
  expect([order, begun()]).toEqual([["a1"], 2]);
  // The second one runs already when this is asked.
  asked.push(read().then((number) => order.push(`d${number}`)));
  await end(2);
  await end(3);
  await Promise.all(asked);
  expect([order, begun()]).toEqual([["a1", "b2", "c2", "d3"], 3]);
});

it("whoever asks the moment that a reading ends starts none beside the one that waits", async () => {
  const { read, end } = readings();
  const first = read().then(() => read());
  const second = read();
  await end(1);
  await end(2);
  expect([await second, await first]).toEqual([2, 2]);
});

it("a reading that fails fails for those who asked for it, and the next one begins", async () => {
  const { read, end, begun } = readings();
  const failed = read().catch((error: Error) => error.message);
  const next = read();
  await end(1, new Error("no answer"));
  expect([await failed, begun()]).toEqual(["no answer", 2]);
  await end(2);
  expect(await next).toBe(2);
  const last = read();
  await end(3);
  expect(await last).toBe(3);
});
