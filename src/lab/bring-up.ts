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

const DEFAULTS = {
  nodes: 3,
  cni: "bridge" as Cni,
  ipv6: false,
  netfilter: false,
  bridgeNetfilter: false,
  txOffload: true,
  sockets: "auto",
  xdp: "auto",
  without: "",
  agentFlags: [] as readonly string[],
  agents: true,
  devices: "named" as "named" | "auto",
  dist: "",
};

export type LabWishes = Readonly<{ lab: string } & Partial<typeof DEFAULTS>>;

/** @throws usage for a wrong name or number of nodes, machine when something it needs was not built */
export function labConfig(wishes: LabWishes): LabConfig {
  const { lab, nodes, cni, ipv6, netfilter, bridgeNetfilter, txOffload, agents, dist, ...agent } = {
    ...DEFAULTS,
    ...wishes,
  };
  const { sockets, xdp, without, agentFlags: flags, devices } = agent;
  lanAddresses("node", nodes, ipv6);
  const passObject = xdp === "on" ? xdpPassObject() : "";
  if (passObject !== "" && !existsSync(passObject))
    throw cannot("machine", "use --xdp on with", passObject, "it is missing, run `make bpf`");
  const rules = { netfilter, bridgeNetfilter, txOffload };
  return {
    network: { lab: checkedLabName(lab), cni, ipv6, ...rules, xdpPassObject: passObject },
    nodes,
    agent: { sockets, xdp, without, flags, devices },
    agents,
    dist,
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
