// Dumps of netlink, of a kernel that says what the test has it say.
import os from "node:os";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

const { EINTR, EAGAIN, ENOENT, EOPNOTSUPP } = os.constants.errno;
const MSG_PEEK = 2;
const NLMSG_DONE = 3;
const NLMSG_ERROR = 2;
const NLM_F_DUMP_INTR = 0x10;
const NEW = 16;

/** What the next calls of recv give: a datagram, or an errno. */
let says: (Uint8Array | number)[] = [];
let asked = 0;
let errno = 0;

type Call = (socket: number, buffer: Uint8Array, length: number, flags: number) => number;
/** A call, and the same in another thread, of which the errno is not told. */
function waiting(call: Call): Call {
  const async = (...args: [...Parameters<Call>, (error: unknown, result: number) => void]): void => {
    const [socket, buffer, length, flags, done] = args;
    setImmediate(() => {
      const before = errno;
      const result = call(socket, buffer, length, flags);
      errno = before;
      done(null, result);
    });
  };
  return Object.assign(call, { async });
}

vi.mock("../../src/libbpf/native.ts", async (original) => ({
  waited: (await original<typeof import("../../src/libbpf/native.ts")>()).waited,
  lastErrno: () => errno,
  native: () => ({
    strerror: (number: number) => `error ${number}`,
    socket: () => 7,
    setsockopt: () => 0,
    close: () => 0,
    send: waiting((_socket: number, request: Uint8Array, length: number) => {
      if (length !== request.length) throw new Error("a question of another length");
      asked++;
      return length;
    }),
    recv: waiting((_socket: number, buffer: Uint8Array, room: number, flags: number) => {
      const next = says[0];
      if (next === undefined) throw new Error("this would wait for ever");
      if (typeof next === "number") {
        errno = next;
        says.shift();
        return -1;
      }
      if (room > buffer.length) throw new Error("more than there is room for");
      buffer.set(next.subarray(0, room));
      if ((flags & MSG_PEEK) !== 0) return next.length;
      says.shift();
      return Math.min(next.length, room);
    }),
  }),
}));

const { NetlinkDump, NETLINK_ROUTE } = await import("../../src/libbpf/netlink.ts");

function message(type: number, payload: readonly number[], flags = 0): Uint8Array {
  const bytes = new Uint8Array(16 + ((payload.length + 3) & ~3));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16 + payload.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  bytes.set(payload, 16);
  return bytes;
}

const datagram = (...messages: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(messages));
const done = (result = 0, flags = 0): Uint8Array =>
  message(NLMSG_DONE, [...new Uint8Array(new Int32Array([result]).buffer)], flags);

async function ask(none: readonly number[] = []): Promise<number[]> {
  using dump = new NetlinkDump(NETLINK_ROUTE, "things");
  const read = (payload: DataView): number | undefined => payload.getUint8(0) || undefined;
  return await dump.ask({ type: 18, payload: new Uint8Array(4), subject: "things" }, read, none);
}

describe("a dump", () => {
  beforeEach(() => {
    says = [];
    asked = 0;
  });
  afterEach(() => expect(says).toEqual([]));

  it("is what is read of each message, of every datagram, until the kernel is done", async () => {
    says = [
      datagram(message(NEW, [1]), message(NEW, [0]), message(NEW, [2, 9, 9, 9, 9])),
      datagram(message(NEW, [3]), done()),
    ];
    expect([await ask(), asked]).toEqual([[1, 2, 3], 1]);
  });

  it("has datagrams that are longer than was thought", async () => {
    const long = Array.from({ length: 2000 }, (_, i) => message(NEW, [(i % 250) + 1, ...new Uint8Array(99)]));
    says = [datagram(...long, done())];
    expect(await ask()).toHaveLength(2000);
  });

  it("is asked for again when something changed meanwhile, and what was read before counts for nothing", async () => {
    says = [
      datagram(message(NEW, [1])),
      datagram(message(NEW, [2], NLM_F_DUMP_INTR), done()),
      datagram(message(NEW, [3])),
      datagram(done(0, NLM_F_DUMP_INTR)),
      datagram(message(NEW, [4]), done()),
    ];
    expect([await ask(), asked]).toEqual([[4], 3]);
  });

  it("is given up when something changes each time", async () => {
    says = Array.from({ length: 20 }, () => datagram(done(0, NLM_F_DUMP_INTR)));
    await expect(ask()).rejects.toThrow(`EAGAIN (error ${EAGAIN}): it changed during each of 20 readings`);
  });

  it("goes on after a signal", async () => {
    says = [EINTR, datagram(message(NEW, [1])), EINTR, EINTR, datagram(done())];
    expect(await ask()).toEqual([1]);
  });

  it.each([
    ["at once", message(NLMSG_ERROR, [...new Uint8Array(new Int32Array([-ENOENT]).buffer)])],
    ["in the end", done(-ENOENT)],
  ])("fails with the kernel's error, told %s, unless that one says that there is nothing", async (_when, told) => {
    says = [datagram(told)];
    await expect(ask([EOPNOTSUPP])).rejects.toThrow("could not ask for things: ENOENT");
    says = [datagram(told)];
    expect(await ask([ENOENT])).toEqual([]);
  });
});
