// What a second of the agent's does for what it announces: in which order, and what other nodes are told of it.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createPeriodic, type PeriodicParts } from "../../src/agent/periodic.ts";
import { createTimers } from "../../src/agent/timers.ts";
import type { Soundness } from "../../src/l2/announcer-machine.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface Given {
  readonly works?: boolean;
  readonly attached?: boolean;
  readonly lacking?: string[];
  /** Done when the first second is over, before what was said is looked at. */
  after?(periodic: ReturnType<typeof createPeriodic>, run: (...ifindexes: number[]) => object[]): void;
}

function bench(given: Given = {}) {
  const said: string[] = [];
  let running: readonly number[] = [2];
  const timers = createTimers((error) => said.push(String(error)));
  const device = (name: string, ifindex: number) => ({
    device: { name, ifindex, running: running.includes(ifindex), mac: Uint8Array.of(2, 0, 0, 0, 0, ifindex) },
  });
  const list = () => [device("eth0", 2), device("eth1", 3)];
  const roles = new Map([
    [2, "uplink"],
    [3, "uplink"],
    [9, "pod"],
  ]);
  const parts = {
    network: { isAttached: () => given.attached ?? true },
    announcements: { lacking: () => given.lacking ?? [] },
    announcer: {
      renew(sound: ReadonlyMap<number, Soundness>) {
        said.push(`renew ${[...sound].map(([ifindex, state]) => `${ifindex} ${state}`).join()}`);
        return { sound: true, renews: true };
      },
    },
    liveness: {
      setMacs: (macs: readonly Uint8Array[]) => void said.push(`macs ${macs.map((mac) => mac[5]).join()}`),
      renew: ({ sound }: { sound: boolean }) => void said.push(`tell ${sound}`),
    },
    reconciler: {
      turn: () => void said.push("turn"),
      works: () => given.works ?? true,
      lookAt: () => undefined,
      desired: () => ({ devices: { list: list(), roles } }),
    },
    timers,
  } as unknown as PeriodicParts;
  const periodic = createPeriodic(parts);
  periodic.start();
  vi.advanceTimersByTime(1_000);
  given.after?.(periodic, (...ifindexes) => {
    running = ifindexes;
    return list();
  });
  timers.stop();
  return said;
}

test("this node's MACs are known before anything is asked on the wire, and others are told at last", () => {
  expect(bench()).toEqual(["turn", "macs 2,3", "renew 2 sound,3 no-carrier", "tell true"]);
});

test("a device whose rows could not be brought up to date is impaired, and one without programs is nothing", () => {
  expect(bench({ works: false })[2]).toBe("renew 2 impaired,3 no-carrier");
  expect(bench({ works: false, attached: false })[2]).toBe("renew 3 no-carrier");
});

test("a node that lost the device for an address tells others not to rely on it", () => {
  expect(bench({ lacking: ["192.168.122.101"] }).at(-1)).toBe("tell false");
});

test("a link that loses its carrier ends what is announced there before the second is over, one that gets it does not hurry", () => {
  const said = bench({
    after(periodic, run) {
      periodic.noteLinks(run(2, 3) as never);
      vi.advanceTimersByTime(10);
      periodic.noteLinks(run(3) as never);
      vi.advanceTimersByTime(10);
    },
  });
  expect(said.slice(4)).toEqual(["macs 2,3", "renew 2 no-carrier,3 sound", "tell true"]);
});
