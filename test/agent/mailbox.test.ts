// Holds the agent's mailbox: nothing is lost or overtaken between the source and the agent.
import { expect, test } from "vitest";
import { createMailbox } from "../../src/agent/mailbox.ts";

test("batches come in their order, those that waited first, one in each turn", async () => {
  const mailbox = createMailbox();
  mailbox.deliver([], "a", false);
  mailbox.deliver([], "b", false);
  const taken: string[] = [];
  mailbox.open(
    (_, digest) => taken.push(digest),
    (error) => {
      throw error;
    },
  );
  mailbox.deliver([], "c", true);
  expect(taken).toEqual([]);
  await new Promise(setImmediate);
  expect(taken).toEqual(["a"]);
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  expect(taken).toEqual(["a", "b", "c"]);
  mailbox.deliver([], "d", true);
  expect(taken).toEqual(["a", "b", "c", "d"]);
});

test("what a batch fails with is told, and reaches neither the source nor the event loop", async () => {
  const mailbox = createMailbox();
  mailbox.deliver([], "a", false);
  const told: unknown[] = [];
  mailbox.open(
    (_, digest) => {
      throw new Error(digest);
    },
    (error) => told.push((error as Error).message),
  );
  await new Promise(setImmediate);
  mailbox.deliver([], "b", true);
  expect(told).toEqual(["a", "b"]);
});
