// The link's own part, against a responder of this process on loopback: the kernel's answers are test/kernel/datapath/liveness.test.ts.
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createLivenessLink, type LivenessAnswer, type LivenessLink } from "../../src/agent/liveness-link.ts";
import { decodeMessage, encodeMessage, type LivenessMessage, nodeIdOf } from "../../src/l2/liveness-message.ts";

const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);
const NEXT = Uint8Array.from({ length: 16 }, (_, i) => 255 - i);
const HERE = "127.0.0.1";

let responder: Socket;
let link: LivenessLink;
let answers: LivenessAnswer[];
let asked: LivenessMessage[];
let nowMs: number;
/** The link's port. */
let peer: number;
/** What the responder sends for a question: bytes, in their order. */
let respond: (asked: LivenessMessage) => readonly Uint8Array[];

const answerOf = ({ nonce }: LivenessMessage, given: Partial<LivenessMessage> = {}): LivenessMessage => ({
  ...{ kind: "answer", nonce, nodeId: nodeIdOf("node2"), incarnation: 7, ageMs: 20, isSound: true, isLeaving: false },
  ...{ macs: ["02:00:00:00:00:02"], ...given },
});

async function start(keys: () => readonly Uint8Array[] = () => [KEY]): Promise<void> {
  responder = createSocket("udp4");
  responder.bind(0, HERE);
  await once(responder, "listening");
  responder.on("message", (bytes, { port, address }) => {
    const message = decodeMessage(bytes, [KEY, NEXT]);
    if (message === undefined) return;
    asked.push(message);
    peer = port;
    for (const one of respond(message)) responder.send(one, port, address);
  });
  link = createLivenessLink({ port: responder.address().port, nodeId: nodeIdOf("node1"), keys, clock: () => nowMs });
  link.onAnswer((answer) => answers.push(answer));
}

beforeEach(() => {
  answers = [];
  asked = [];
  nowMs = 1_000;
  respond = (message) => [encodeMessage(answerOf(message), KEY)];
});
afterEach(() => {
  link?.stop();
  responder?.close();
});

/** Until so many answers, or, as everything here is of one process and in order, a last question was answered. */
async function until(condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 5_000; !condition() && performance.now() < end; )
    await new Promise((resolve) => setTimeout(resolve, 5));
  expect(condition()).toBe(true);
}

describe("the liveness link", () => {
  test("hands on who answered what, when it was asked and when it came", async () => {
    await start();
    const nonce = link.ask(HERE);
    await until(() => answers.length === 1);
    expect(nonce).toMatch(/^[0-9a-f]{16}$/);
    expect(asked).toMatchObject([{ kind: "question", nonce, nodeId: nodeIdOf("node1"), macs: [], ageMs: 0 }]);
    expect(answers).toEqual([
      { ...answerOf({ nonce } as LivenessMessage), from: HERE, askedMs: 1_000, receivedMs: 1_000 },
    ]);
  });

  test("hears nothing in what does not verify, was not asked, comes twice, is a question, or is from elsewhere", async () => {
    await start();
    const elsewhere = createSocket("udp4");
    try {
      elsewhere.bind(0, "127.0.0.2");
      await once(elsewhere, "listening");
      respond = () => [];
      const nonce = link.ask(HERE)!;
      await until(() => asked.length === 1);
      elsewhere.send(encodeMessage(answerOf(asked[0]!), KEY), peer, HERE);
      respond = (message) => [
        encodeMessage(answerOf(message, { nonce: "00".repeat(8) }), KEY),
        encodeMessage(answerOf(message), NEXT),
        encodeMessage({ ...answerOf(message), kind: "question" }, KEY),
        Buffer.from("no message"),
        new Uint8Array(0),
        encodeMessage(answerOf(message), KEY),
        encodeMessage(answerOf(message), KEY),
      ];
      const second = link.ask(HERE);
      await until(() => answers.length === 1);
      link.ask(HERE);
      await until(() => answers.length === 2);
      expect(answers.map((answer) => answer.nonce)).not.toContain(nonce);
      expect(answers[0]?.nonce).toBe(second);
    } finally {
      elsewhere.close();
    }
  });

  test("believes an answer by an older key, and asks by the newest", async () => {
    await start(() => [NEXT, KEY]);
    link.ask(HERE);
    await until(() => answers.length === 1);
    expect(answers[0]?.nodeId).toBe(nodeIdOf("node2"));
  });

  test("takes no answer that is two seconds old", async () => {
    await start();
    link.ask(HERE);
    nowMs += 2_001;
    await until(() => asked.length === 1);
    const fresh = link.ask(HERE);
    await until(() => answers.length === 1);
    expect(answers[0]?.nonce).toBe(fresh);
  });

  test("waits for a bounded number of answers: the oldest are given up first", async () => {
    await start();
    respond = () => [];
    const early = [link.ask(HERE), link.ask(HERE)];
    const nonces = Array.from({ length: 8_191 }, () => link.ask("127.0.0.3"));
    expect(new Set([...early, ...nonces]).size).toBe(8_193);
    await until(() => asked.length === 2);
    for (const message of asked) responder.send(encodeMessage(answerOf(message), KEY), peer, HERE);
    await until(() => answers.length === 1);
    respond = (message) => [encodeMessage(answerOf(message), KEY)];
    const last = link.ask(HERE);
    await until(() => answers.length === 2);
    expect(answers.map(({ nonce }) => nonce)).toEqual([early[1], last]);
  });

  test("says what could not be sent as a value, by the node, until it can be", async () => {
    await start();
    // A broadcast, which the kernel refuses at once, so that nothing leaves.
    let unsent = 0;
    const count = (): void => void unsent++;
    expect(link.ask("255.255.255.255", count)).toMatch(/^[0-9a-f]{16}$/);
    await until(() => link.problems().size === 1);
    expect(link.problems().get("255.255.255.255")).toMatch(/^E[A-Z]+$/);
    link.ask(HERE, count);
    await until(() => answers.length === 1);
    expect([...link.problems().keys()]).toEqual(["255.255.255.255"]);
    expect(unsent).toBe(1);
    link.stop();
    link.ask(HERE, count);
    expect(unsent).toBe(2);
  });

  test("asks nothing without a key, nor after stop()", async () => {
    await start(() => []);
    expect(link.ask(HERE)).toBeUndefined();
    link.stop();
    await start();
    link.stop();
    expect(link.ask(HERE)).toBeUndefined();
  });
});
