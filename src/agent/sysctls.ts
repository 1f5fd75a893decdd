// The kernel's settings that this node's traffic depends on: ports that no process is to get by itself are reserved, and forwarding
// that is off is told.
import { readFileSync } from "node:fs";
import type { DesiredDevices } from "../decide/decide.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import type { Range } from "../lib/range.ts";
import type { Notice } from "../model/objects.ts";
import { setConntrackTimeouts } from "./conntrack-timeouts.ts";
import { reservePorts } from "./reserved-ports.ts";

export interface Sysctls {
  /** @throws Failure "machine" when the ports cannot be reserved */
  apply(forwarding: DesiredDevices["forwarding"]): void;
  notices(): readonly Notice[];
}

export interface SysctlsOptions {
  readonly ports: Range;
  readonly stateDir: string;
  /** netfilter's timeouts to be set, in seconds; 0 leaves one as it is. */
  readonly conntrack?: Parameters<typeof setConntrackTimeouts>[0];
  /** Directory of sysctls. */
  readonly root?: string;
}

export function createSysctls({ ports, stateDir, conntrack = {}, root = "/proc/sys" }: SysctlsOptions): Sysctls {
  let unset: readonly Notice[] = [];
  let off: readonly Notice[] = [];
  let unreserved: readonly Notice[] = [];
  return {
    apply(forwarding) {
      off = forwarding.flatMap(({ device, family }) => {
        const field = `net.${family}.conf.${device}.forwarding`;
        return isOff(`${root}/net/${family}/conf/${device}/forwarding`) ? forwardingOff(device, family, field) : [];
      });
      unset = setConntrackTimeouts(conntrack, `${root}/net/netfilter`).map(({ sysctl, why }) =>
        machineNotice(`Sysctl ${sysctl}`, "sysctl-not-set", `could not set ${sysctl}: ${why}`),
      );
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
