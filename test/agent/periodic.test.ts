// What a second of the agent's does for what it announces: in which order, and what other nodes are told of it.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createPeriodic, type PeriodicParts } from "../../src/agent/periodic.ts";
import { createTimers } from "../../src/agent/timers.ts";
import type { Soundness } from "../../src/l2/announcer-machine.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function bench(given: { readonly works?: boolean; readonly attached?: boolean; readonly lacking?: string[] } = {}) {
  const said: string[] = [];
  const timers = createTimers((error) => said.push(String(error)));
  const device = (name: string, ifindex: number, running: boolean) => ({
    device: { name, ifindex, running, mac: Uint8Array.of(2, 0, 0, 0, 0, ifindex) },
  });
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
      desired: () => ({ devices: { list: [device("eth0", 2, true), device("eth1", 3, false)], roles } }),
    },
    timers,
  } as unknown as PeriodicParts;
  createPeriodic(parts).start();
  vi.advanceTimersByTime(1_000);
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
