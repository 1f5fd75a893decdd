// Clients and hosts on a lab's LAN: machines outside the cluster. A client runs commands; a host also answers as pods do.
import { join } from "node:path";
import type { Address } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { lanAddresses } from "./addressing.ts";
import { inCgroup, makeCgroup } from "./cgroups.ts";
import { type LabPaths, namespaceName } from "./lab-paths.ts";
import { addClient, addHost, type LabNetwork } from "./network.ts";
import { podServerCommand } from "./programs.ts";
import { cannot } from "./refusals.ts";
import { changeNetwork, inNamespace, type NetworkScript, spawnLogged } from "./shell.ts";

export interface Member {
  readonly name: string;
  readonly addresses: readonly Address[];
  readonly netns: string;
}

export class LanMembers {
  readonly #network: LabNetwork;
  readonly #paths: LabPaths;
  readonly #log: Log;
  readonly #clients = new Map<number, Promise<void>>();
  readonly #hosts = new Map<string, { readonly number: number; readonly addresses: readonly Address[] }>();

  constructor(network: LabNetwork, paths: LabPaths, log: Log) {
    this.#network = network;
    this.#paths = paths;
    this.#log = log;
  }

  /** Adds client `number` to a script that the caller runs. */
  addClient(script: NetworkScript, number: number): void {
    addClient(script, this.#network, number);
    makeCgroup(this.#cgroup(`client${number}`));
    this.#clients.set(number, Promise.resolve());
  }

  #cgroup(part: string): string {
    return join(this.#paths.cgroup, "outside", part);
  }

  /** A host that has `address` and answers there on port 80 as a pod does. @throws conflict when the name is taken */
  async addHost(name: string, address: Address): Promise<void> {
    if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
      throw cannot("usage", "add host", name.slice(0, 64), "a name is a-z, 0-9 and '-', at most 63 of them");
    if (this.#hosts.has(name) || /^client\d+$/.test(name))
      throw cannot("conflict", "add host", name, "the name is taken");
    const number = this.#hosts.size + 1;
    const lan = lanAddresses("host", number, this.#network.ipv6);
    this.#hosts.set(name, { number, addresses: [address, ...lan] });
    await changeNetwork(`host ${name}`, (script) => addHost(script, this.#network, number, address));
    const cgroup = this.#cgroup(`h${number}`);
    makeCgroup(cgroup);
    const command = inNamespace(this.#netns(number), podServerCommand(name, "-", [80], 0, 0));
    const log = join(this.#paths.runDir, "pods", `host_${name}.log`);
    const child = spawnLogged(inCgroup(cgroup, command), log, { stdout: "pipe" });
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once("data", () => resolve());
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        this.#log.warn({ host: name, code, signal }, "the server of a host ended");
        reject(cannot("machine", "start the server of host", name, `see ${log}`));
      });
    });
  }

  #netns(host: number): string {
    return namespaceName(this.#network.lab, `h${host}`);
  }

  /** The LAN's port of a client or host, undefined when there is none of this name. */
  port(name: string): string | undefined {
    const host = this.#hosts.get(name);
    if (host !== undefined) return `h${host.number}`;
    const number = clientNumber(name);
    return number !== undefined && this.#clients.has(number) ? name : undefined;
  }

  names(): string[] {
    return [...this.clients().map((client) => client.name), ...this.#hosts.keys()];
  }

  /** Where a command for a client or host runs; a client that was not there is made. undefined for other names. */
  async target(name: string): Promise<{ netns: string; cgroup: string } | undefined> {
    const host = this.#hosts.get(name);
    if (host !== undefined) return { netns: this.#netns(host.number), cgroup: this.#cgroup(`h${host.number}`) };
    const number = clientNumber(name);
    if (number === undefined) return undefined;
    let made = this.#clients.get(number);
    if (made === undefined) {
      makeCgroup(this.#cgroup(name));
      made = changeNetwork(name, (script) => addClient(script, this.#network, number));
      this.#clients.set(number, made);
    }
    await made;
    return { netns: namespaceName(this.#network.lab, name), cgroup: this.#cgroup(name) };
  }

  clients(): Member[] {
    return [...this.#clients.keys()]
      .sort((a, b) => a - b)
      .map((number) => ({
        name: `client${number}`,
        addresses: lanAddresses("client", number, this.#network.ipv6),
        netns: namespaceName(this.#network.lab, `client${number}`),
      }));
  }

  hosts(): Member[] {
    return [...this.#hosts].map(([name, { number, addresses }]) => ({ name, addresses, netns: this.#netns(number) }));
  }
}

function clientNumber(name: string): number | undefined {
  const match = /^client([1-9]\d?)$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}
