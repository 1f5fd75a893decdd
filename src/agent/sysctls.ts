// The kernel's settings that this node's traffic depends on: ports that no process is to get by itself are reserved, netfilter's limits
// and timeouts are set where they are asked for, and forwarding that is off is told.
import { readFileSync } from "node:fs";
import type { DesiredDevices } from "../decide/decide.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import type { Range } from "../lib/range.ts";
import type { Notice } from "../model/objects.ts";
import { type ConntrackWishes, createConntrackSysctls } from "./conntrack-sysctls.ts";
import { reservePorts } from "./reserved-ports.ts";

export interface Sysctls {
  /** @throws Failure "machine" when the ports cannot be reserved */
  apply(forwarding: DesiredDevices["forwarding"]): void;
  notices(): readonly Notice[];
}

export interface SysctlsOptions {
  readonly ports: Range;
  readonly stateDir: string;
  readonly conntrack: ConntrackWishes;
  /** Directory that holds proc/sys, and sys, with a slash. */
  readonly root?: string;
}

export function createSysctls({ ports, stateDir, conntrack, root: top = "/" }: SysctlsOptions): Sysctls {
  const root = `${top}proc/sys`;
  const limits = createConntrackSysctls(conntrack, top);
  let unset: readonly Notice[] = [];
  let off: readonly Notice[] = [];
  let unreserved: readonly Notice[] = [];
  return {
    apply(forwarding) {
      off = forwarding.flatMap(({ device, family }) => {
        const field = `net.${family}.conf.${device}.forwarding`;
        return isOff(`${root}/net/${family}/conf/${device}/forwarding`) ? forwardingOff(device, family, field) : [];
      });
      unset = limits.apply();
      try {
        reservePorts(ports, stateDir, `${root}/net/ipv4/ip_local_reserved_ports`);
        unreserved = [];
      } catch (error) {
        const message = (error as Error).message;
        unreserved = [machineNotice("Sysctl ip_local_reserved_ports", "ports-not-reserved", message)];
        throw error;
      }
    },
    notices: () => [...off, ...unset, ...unreserved],
  };
}

function isOff(path: string): boolean {
  try {
    return readFileSync(path, "utf8").trim() === "0";
  } catch {
    return false;
  }
}

/** Without forwarding on the device that a packet came in by, no route is found for it. */
function forwardingOff(device: string, family: "ipv4" | "ipv6", field: string): Notice {
  const message = `${family === "ipv4" ? "IPv4" : "IPv6"} forwarding is off on ${device}: packets for backends on other nodes are dropped; set ${field}=1`;
  return { ...machineNotice(`Device ${device}`, "forwarding-off", message, "error"), field };
}
