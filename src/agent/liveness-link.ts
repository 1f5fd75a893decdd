// Asks other nodes whether they live, by keyed datagrams that their kernel programs answer: a node whose agent is dead, or whose loop is
// blocked, answers too. Who is to be asked when, and what a missing answer means, others decide.
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { decodeMessage, encodeMessage, type LivenessMessage, question } from "../l2/liveness-message.ts";
import { type Address, canonicalAddress, type Family, familyOf } from "../lib/address.ts";

export interface LivenessAnswer extends LivenessMessage {
  /** That was asked. */
  readonly from: Address;
  /** By the clock that the link was given. */
  readonly askedMs: number;
  readonly receivedMs: number;
}

export interface LivenessLinkParts {
  /** UDP port of the nodes. */
  readonly port: number;
  /** nodeIdOf() this node. */
  readonly nodeId: string;
  /** Keys of 16 bytes: by the first one it asks. None: nothing is asked. */
  keys(): readonly Uint8Array[];
  /** Milliseconds that never go back. */
  clock(): number;
}

export interface LivenessLink {
  /**
   * Asks once. Returns the nonce, which the answer has; undefined when it is known that nothing was sent. `unsent` is told then, and
   * when that turns out later. Never throws.
   */
  ask(node: Address, unsent?: () => void): string | undefined;
  /** The last caller is told of answers that verify, each once, to what was asked within two seconds. */
  onAnswer(tell: (answer: LivenessAnswer) => void): void;
  /** Why questions to a node could not be sent, by its address: "ENETUNREACH". Gone when one could be. */
  problems(): ReadonlyMap<Address, string>;
  stop(): void;
}

/** An answer that comes later says nothing of now. */
const PENDING_MS = 2_000;
/** More are never waited for: the oldest are given up. */
const MOST_PENDING = 8_192;
const MOST_PROBLEMS = 1_024;
/** Of a thousand answers, as far as the system allows it. */
const RECEIVE_BUFFER = 1 << 20;

const codeOf = (error: unknown): string =>
  (error as NodeJS.ErrnoException).code ?? (error instanceof Error ? error.message : String(error));

export function createLivenessLink(parts: LivenessLinkParts): LivenessLink {
  const { port, nodeId, keys, clock } = parts;
  /** By nonce, oldest first. */
  const pending = new Map<string, { readonly node: Address; readonly askedMs: number }>();
  const problems = new Map<Address, string>();
  const sockets = new Map<Family, Socket>();
  let tell: (answer: LivenessAnswer) => void = () => undefined;
  let stopped = false;

  function failed(node: Address, error: unknown): void {
    if (problems.size >= MOST_PROBLEMS && !problems.has(node)) return;
    problems.set(node, codeOf(error));
  }

  function receive(bytes: Uint8Array, from: string): void {
    const receivedMs = clock();
    const answer = decodeMessage(bytes, keys());
    if (stopped || answer?.kind !== "answer") return;
    const asked = pending.get(answer.nonce);
    if (asked === undefined || asked.node !== canonicalAddress(from)) return;
    pending.delete(answer.nonce);
    if (receivedMs - asked.askedMs > PENDING_MS) return;
    tell({ ...answer, from: asked.node, askedMs: asked.askedMs, receivedMs });
  }

  /** A socket that breaks is made anew by the next question. */
  function socketOf(family: Family): Socket {
    const known = sockets.get(family);
    if (known !== undefined) return known;
    const socket = createSocket({
      type: family === "IPv4" ? "udp4" : "udp6",
      ipv6Only: family === "IPv6",
      recvBufferSize: RECEIVE_BUFFER,
      // Nothing but addresses is asked for.
      lookup: (host, _options, done) => done(null, host, family === "IPv4" ? 4 : 6),
    });
    socket.on("message", (bytes, { address }) => receive(bytes, address));
    socket.on("error", () => {
      if (sockets.get(family) === socket) sockets.delete(family);
      socket.close();
    });
    socket.unref();
    sockets.set(family, socket);
    return socket;
  }

  function forget(nowMs: number): void {
    for (const [nonce, { askedMs }] of pending) {
      if (nowMs - askedMs <= PENDING_MS && pending.size < MOST_PENDING) return;
      pending.delete(nonce);
    }
  }

  return {
    ask(node, unsent = () => undefined) {
      const key = keys()[0];
      if (stopped || key === undefined) {
        unsent();
        return undefined;
      }
      const askedMs = clock();
      forget(askedMs);
      const nonce = randomBytes(8).toString("hex");
      pending.set(nonce, { node, askedMs });
      try {
        socketOf(familyOf(node)).send(encodeMessage(question(nonce, nodeId), key), port, node, (error) => {
          if (error === null) {
            problems.delete(node);
            return;
          }
          failed(node, error);
          pending.delete(nonce);
          unsent();
        });
        return nonce;
      } catch (error) {
        failed(node, error);
        pending.delete(nonce);
        unsent();
        return undefined;
      }
    },
    onAnswer(next) {
      tell = next;
    },
    problems: () => problems,
    stop() {
      stopped = true;
      for (const socket of sockets.values()) socket.close();
      sockets.clear();
      pending.clear();
    },
  };
}
