// Which programs come to which devices, over attachments without a kernel.
import { expect, it, vi } from "vitest";
import { type Checksums, createFarEnds } from "../../src/agent/far-end.ts";
import { createNodeNetwork } from "../../src/agent/node-network.ts";
import type { DesiredDevice, DesiredDevices } from "../../src/decide/decide.ts";
import type { DeviceRole } from "../../src/decide/device-roles.ts";
import { device, NETWORK } from "../decide/inputs.ts";

const NOTHING = { IPv4: "", IPv6: "" } as const;

function desired(name: string, ifindex: number, role: DeviceRole | undefined, keep = false): DesiredDevice {
  const rest = { xdp: false, bridge: 0, accepts: new Uint8Array(6), sources: NOTHING, pods: NOTHING };
  return { device: device(name, ifindex), role, keep, ...rest };
}

function devices(...list: DesiredDevice[]): DesiredDevices {
  const roles = new Map(list.flatMap(({ device: { ifindex }, role }) => (role === undefined ? [] : [[ifindex, role]])));
  const addresses = { own: [], others: [], otherPodCIDRs: [] };
  const basis = { network: NETWORK, addresses, families: [], complete: true };
  return { list, asked: list.length, roles, isWhole: true, needsL3: false, forwarding: [], basis };
}

function bench() {
  const done: string[] = [];
  const refusing = new Set<string>();
  const withXdp = new Set<string>();
  const map = { entries: () => [], lookup: () => undefined, update: () => undefined, delete: () => false };
  const attachments = {
    sweep: () => undefined,
    reassert: () => [],
    attachDevice(name: string) {
      if (refusing.has(name)) throw new Error("EBUSY");
      done.push(`attach ${name}`);
    },
    detachDevice: (name: string) => void done.push(`detach ${name}`),
    attachXdp: (name: string) => void done.push(`XDP ${name}`),
    detachXdp: () => undefined,
    hasXdp: (name: string) => withXdp.has(name),
  };
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  const programs = new Map<string, { readonly name: string }>();
  const dataplane = {
    map: () => map,
    program(name: string) {
      const found = programs.get(name) ?? { name };
      programs.set(name, found);
      return found;
    },
  };
  const asked = Promise.withResolvers<Checksums>();
  const farEnds = createFarEnds(new AbortController().signal, () => asked.promise);
  const looked = vi.fn();
  farEnds.onChange(looked);
  const network = createNodeNetwork(dataplane as never, attachments as never, { xdp: "off", farEnds }, log as never);
  return {
    /** The far end that is asked about does this with checksums. Returns how often it was said that devices are to be looked at. */
    async answers(checksums: Checksums) {
      asked.resolve(checksums);
      await Promise.resolve();
      return looked.mock.calls.length;
    },
    apply: (wanted: DesiredDevices) => network.apply({ devices: wanted, attach: true }),
    /** Of a device by this name: attaching throws while it is in here. */
    refusing,
    /** Names of devices that have XDP of an agent before. */
    withXdp,
    isWhole: () => network.isWhole(),
    notices: () => network.notices(),
    /** Every program is another one from now on. */
    reload: () => programs.clear(),
    /** Since it was asked last. */
    done: () => done.splice(0),
  };
}

it("programs that an agent before left on a device without a role now are taken off once", () => {
  const { apply, done } = bench();
  const wanted = devices(desired("eth0", 2, "uplink"), desired("eth1", 3, undefined));
  apply(wanted);
  expect(done()).toEqual(["attach eth0", "detach eth1"]);
  apply(wanted);
  expect(done()).toEqual([]);
});

it("they stay while it is not known whether the device has a role, and go when it is", () => {
  const { apply, done } = bench();
  apply(devices(desired("eth1", 3, undefined, true)));
  expect(done()).toEqual([]);
  apply(devices(desired("eth1", 3, undefined)));
  expect(done()).toEqual(["detach eth1"]);
});

it("programs that were loaded anew come to each device once", () => {
  const { apply, reload, done } = bench();
  const wanted = devices(desired("eth0", 2, "uplink"), desired("veth1", 3, "pod"), desired("eth1", 4, undefined));
  apply(wanted);
  done();
  reload();
  apply(wanted);
  expect(done()).toEqual(["attach eth0", "attach veth1"]);
  apply(wanted);
  expect(done()).toEqual([]);
});

it("is not whole while one device lacks its programs, and tries again each time", () => {
  const { apply, done, refusing, isWhole, notices } = bench();
  const wanted = devices(desired("eth0", 2, "uplink"), desired("eth1", 3, "uplink"));
  refusing.add("eth1");
  apply(wanted);
  expect(done()).toEqual(["attach eth0"]);
  expect(isWhole()).toBe(false);
  expect(notices()).toMatchObject([{ object: "Device eth1", reason: "not-attached", severity: "error" }]);
  refusing.clear();
  apply(wanted);
  expect(done()).toEqual(["attach eth1"]);
  expect([isWhole(), notices()]).toEqual([true, []]);
});

it.each([
  ["whole", ["XDP veth0"], []],
  ["partial", [], ["the far end of this veth leaves checksums to be completed"]],
  ["unknown", [], ["the far end of this veth cannot be asked about checksums"]],
] as const)("a veth has no XDP before its far end has said that its checksums are %s", async (said, then, why) => {
  const { apply, answers, done, notices } = bench();
  const { device: known, ...rest } = desired("veth0", 2, "uplink");
  const wanted = devices({ ...rest, device: { ...known, kind: "veth" }, xdp: true });
  apply(wanted);
  expect([done(), notices()]).toEqual([["attach veth0"], []]);
  expect(await answers(said)).toBe(1);
  apply(wanted);
  expect(done()).toEqual(then);
  expect(notices().map(({ message }) => message)).toEqual(why.map((text) => expect.stringContaining(text)));
});

it("a veth with XDP of an agent before keeps it, with this agent's program, while its far end is asked", async () => {
  const { apply, answers, done, withXdp } = bench();
  const { device: known, ...rest } = desired("veth0", 2, "uplink");
  const wanted = devices({ ...rest, device: { ...known, kind: "veth" }, xdp: true });
  withXdp.add("veth0");
  apply(wanted);
  expect(done()).toEqual(["attach veth0", "XDP veth0"]);
  await answers("whole");
  apply(wanted);
  expect(done()).toEqual([]);
});
