// From what a person asks to a running lab. A lab that does not come up is taken down again.
import { existsSync } from "node:fs";
import { Failure } from "../lib/errors.ts";
import { lanAddresses } from "./addressing.ts";
import type { ChangeResult } from "./applied-objects.ts";
import { order } from "./control-client.ts";
import type { LabConfig } from "./lab.ts";
import { checkedLabName } from "./lab-paths.ts";
import type { Cni } from "./network.ts";
import { xdpPassObject } from "./programs.ts";
import { cannot } from "./refusals.ts";
import { spawnControl } from "./spawn-control.ts";
import { tearDown } from "./teardown.ts";

export interface LabWishes {
  readonly lab: string;
  /** @default 3 */
  readonly nodes?: number;
  /** @default "bridge" */
  readonly cni?: Cni;
  readonly ipv6?: boolean;
  readonly netfilter?: boolean;
  readonly bridgeNetfilter?: boolean;
  /** @default true */
  readonly txOffload?: boolean;
  /** @default "auto" */
  readonly sockets?: string;
  /** @default "auto" */
  readonly xdp?: string;
  readonly without?: string;
  readonly agentFlags?: readonly string[];
  /** @default true */
  readonly agents?: boolean;
  /** @default "named" */
  readonly devices?: "named" | "auto";
  readonly dist?: string;
}

/** @throws usage for a wrong name or number of nodes, machine when something it needs was not built */
export function labConfig(wishes: LabWishes): LabConfig {
  const nodes = wishes.nodes ?? 3;
  const ipv6 = wishes.ipv6 ?? false;
  const xdp = wishes.xdp ?? "auto";
  lanAddresses("node", nodes, ipv6);
  const passObject = xdp === "on" ? xdpPassObject() : "";
  if (passObject !== "" && !existsSync(passObject))
    throw cannot("machine", "use --xdp on with", passObject, "it is missing, run `make bpf`");
  return {
    network: {
      lab: checkedLabName(wishes.lab),
      cni: wishes.cni ?? "bridge",
      ipv6,
      netfilter: wishes.netfilter ?? false,
      bridgeNetfilter: wishes.bridgeNetfilter ?? false,
      txOffload: wishes.txOffload ?? true,
      xdpPassObject: passObject,
    },
    nodes,
    agent: {
      sockets: wishes.sockets ?? "auto",
      xdp,
      without: wishes.without ?? "",
      flags: wishes.agentFlags ?? [],
      devices: wishes.devices ?? "named",
      ipv6,
    },
    agents: wishes.agents ?? true,
    dist: wishes.dist ?? "",
  };
}

/** Builds the lab and applies `files`. @throws what went wrong; nothing of the lab is left then, but with `keep` */
export async function bringUp(
  config: LabConfig,
  files: readonly string[],
  options: { progress?: (text: string) => void; keep?: boolean } = {},
): Promise<ChangeResult> {
  const { lab } = config.network;
  try {
    await spawnControl(config);
    return await order<ChangeResult>(lab, "up", { files }, options.progress);
  } catch (error) {
    // Whoever's lab has the name already keeps it.
    const isTheirs = error instanceof Failure && error.code === "conflict" && error.subject === lab;
    if (!isTheirs && options.keep !== true) await tearDown(lab);
    throw error;
  }
}
