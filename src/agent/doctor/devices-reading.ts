// Reads what judgements about devices need beside the network itself. Changes nothing.
import type { Network } from "../../decide/network.ts";
import { xdpFeatures } from "../../libbpf/mod.ts";
import type { DeviceFacts } from "./devices.ts";
import { textOf } from "./machine-reading.ts";

const setting = (name: string): number | undefined => {
  const text = textOf(`/proc/sys/net/${name}`).trim();
  return text === "" ? undefined : Number(text);
};

function featuresOf(ifindex: number): number | undefined {
  try {
    return xdpFeatures(ifindex);
  } catch {
    // Whoever may not ask learns nothing.
    return undefined;
  }
}

export function readDeviceSettings({ devices }: Network): Pick<DeviceFacts, "forwarding" | "rpFilter" | "xdpFeatures"> {
  const forwarding = new Map<string, boolean>();
  for (const { name } of devices) {
    for (const family of ["ipv4", "ipv6"]) {
      const value = setting(`${family}/conf/${name}/forwarding`);
      if (value !== undefined) forwarding.set(`${family} ${name}`, value !== 0);
    }
  }
  const all = setting("ipv4/conf/all/rp_filter") ?? 0;
  return {
    forwarding,
    rpFilter: new Map(devices.map(({ name }) => [name, Math.max(all, setting(`ipv4/conf/${name}/rp_filter`) ?? 0)])),
    xdpFeatures: new Map(devices.map(({ name, ifindex }) => [name, featuresOf(ifindex)])),
  };
}
