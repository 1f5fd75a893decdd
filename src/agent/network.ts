// What the kernel knows of this network namespace's devices, addresses and routes, read through iproute2, and a watch that
// says when it changed. Never changes anything.
import { execFile, spawn } from "node:child_process";
import type { Device, Network, Route } from "../decide/network.ts";
import { type Address, canonicalAddress, familyOf } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

export type { Device, Network, Route };

interface LinkJson {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address?: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly operstate?: string;
  readonly master?: string;
  readonly link?: string;
  readonly link_index?: number;
  readonly link_netnsid?: number;
  readonly link_type: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly {
    readonly local?: string;
    readonly prefixlen: number;
    readonly scope?: string;
    readonly temporary?: boolean;
    readonly deprecated?: boolean;
    readonly label?: string;
  }[];
}

interface RouteJson {
  readonly dst: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly via?: unknown;
  readonly encap?: string;
  readonly prefsrc?: string;
  readonly metric?: number;
  readonly type?: string;
  readonly nexthops?: readonly {
    readonly dev: string;
    readonly gateway?: string;
    readonly via?: unknown;
    readonly encap?: string;
  }[];
}

interface RuleJson {
  readonly src?: string;
}

/** iproute2 writes an encapsulation's fields into its route's object: the second `dst` is the tunnel's other end, or a label. */
const SECOND_DST = /("encap":"[^"]*"(?:,"(?!dst")\w+":(?:"[^"]*"|[^",{}[\]]+))*),"dst":"[^"]*"/g;

function ip<T>(...args: string[]): Promise<T> {
  return new Promise((resolve, reject) => {
    execFile("ip", ["-json", ...args], { maxBuffer: 64 << 20 }, (error, stdout) => {
      if (error === null) resolve(JSON.parse(stdout === "" ? "[]" : stdout.replace(SECOND_DST, "$1")) as T);
      else
        reject(
          new Failure(
            "machine",
            "iproute2",
            `could not read the network by 'ip ${args.join(" ")}': ${error.message.trim()}`,
            { cause: error },
          ),
        );
    });
  });
}

function macOf(text: string | undefined): Uint8Array {
  const mac = new Uint8Array(6);
  const parts = text?.split(":") ?? [];
  if (parts.length === 6) mac.set(parts.map((part) => Number.parseInt(part, 16)));
  return mac;
}

function farEndOf(link: LinkJson, links: readonly LinkJson[]): Device["farEnd"] {
  if (link.linkinfo?.info_kind !== "veth") return undefined;
  const ifindex = link.link_index ?? links.find(({ ifname }) => ifname === link.link)?.ifindex;
  return ifindex === undefined ? undefined : { ifindex, netns: link.link_netnsid };
}

function deviceOf(link: LinkJson, links: readonly LinkJson[]): Device {
  const addresses: { address: Address; length: number }[] = [];
  for (const { local, prefixlen, scope, temporary, deprecated } of link.addr_info ?? []) {
    const address = local === undefined ? undefined : canonicalAddress(local);
    if (address === undefined || scope !== "global" || temporary === true || deprecated === true) continue;
    addresses.push({ address, length: prefixlen });
  }
  return {
    name: link.ifname,
    ifindex: link.ifindex,
    mac: macOf(link.address),
    mtu: link.mtu,
    up: link.flags.includes("UP"),
    running: link.flags.includes("LOWER_UP"),
    master: link.master ?? "",
    lower: link.link ?? "",
    kind: link.linkinfo?.info_kind ?? "",
    linkType: link.link_type,
    addresses,
    farEnd: farEndOf(link, links),
  };
}

function routesOf(json: readonly RouteJson[], any: Address): Route[] {
  const routes: Route[] = [];
  for (const route of json) {
    const { dst, dev, prefsrc, metric, type, nexthops } = route;
    if (type !== undefined && type !== "unicast") continue;
    const isDefault = dst === "default";
    const [text = "", lengthText] = dst.split("/");
    const address = isDefault ? any : canonicalAddress(text);
    if (address === undefined) continue;
    const length = isDefault
      ? 0
      : lengthText === undefined
        ? familyOf(address) === "IPv4"
          ? 32
          : 128
        : Number(lengthText);
    const source = (prefsrc === undefined ? undefined : canonicalAddress(prefsrc)) ?? "";
    for (const hop of nexthops ?? [{ ...route, dev: dev ?? "" }]) {
      if (hop.dev === "") continue;
      routes.push({
        address,
        length,
        isDefault,
        device: hop.dev,
        viaGateway: hop.gateway !== undefined || hop.via !== undefined,
        encapsulation: hop.encap ?? "",
        source,
        metric: metric ?? 0,
      });
    }
  }
  return routes;
}

/** A kernel without rules of a family has none that choose by source. */
async function hasSourceRule(family: "-4" | "-6"): Promise<boolean> {
  const rules = await ip<RuleJson[]>(family, "rule", "show").catch(() => []);
  return rules.some(({ src }) => src !== undefined && src !== "all");
}

/** Reads everything once: five short commands. Throws Failure "machine" when iproute2 is missing. */
export async function readNetwork(): Promise<Network> {
  // One after another: to start a process takes milliseconds in which the event loop stands.
  const links = await ip<LinkJson[]>("-details", "address", "show");
  const v4 = await ip<RouteJson[]>("-4", "route", "show");
  const v6 = await ip<RouteJson[]>("-6", "route", "show");
  const routesBySource = (await hasSourceRule("-4")) || (await hasSourceRule("-6"));
  const known = links.filter((link) => link.ifindex !== undefined);
  return {
    devices: known.map((link) => deviceOf(link, known)),
    routes: [...routesOf(v4, "0.0.0.0"), ...routesOf(v6, "::")],
    routesBySource,
  };
}

export interface NetworkWatch {
  stop(): void;
}

const GATHER_MS = 30;
const RESCAN_MS = 10_000;
const RESTART_MS = 1_000;
/** A monitor says nothing of what changed before it listened, which takes a while on a busy machine: read again so long after its start. */
const CATCH_UP_MS = [0, 200, 1_000, 3_000];

/** Calls `changed` a moment after links, addresses, routes or rules changed, and every ten seconds all the same. */
export function watchNetwork(changed: () => void, log: Log): NetworkWatch {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let child: ReturnType<typeof spawn> | undefined;
  const soon = (): void => {
    if (stopped) return;
    timer ??= setTimeout(() => {
      timer = undefined;
      changed();
    }, GATHER_MS);
  };
  const start = (): void => {
    if (stopped) return;
    // The child must not outlive an agent that is killed.
    const made = spawn(
      "setpriv",
      ["--pdeathsig", "KILL", "ip", "-oneline", "monitor", "link", "address", "route", "rule"],
      {
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
    child = made;
    for (const ms of CATCH_UP_MS) setTimeout(soon, ms).unref();
    made.stdout.on("data", soon);
    made.on("error", (error) => log.warn({ reason: error.message }, "could not watch the network by 'ip monitor'"));
    made.on("close", () => {
      if (!stopped) setTimeout(start, RESTART_MS).unref();
    });
  };
  start();
  const rescan = setInterval(changed, RESCAN_MS);
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
      clearInterval(rescan);
      child?.kill("SIGKILL");
    },
  };
}
