// What iproute2 tells of a network namespace, in the shape of the agent's own reading: what that one is compared with.
import { execFileSync } from "node:child_process";
import type { Device, Network, Route } from "../../../src/decide/network.ts";
import { canonicalAddress, familyOf } from "../../../src/lib/address.ts";

interface LinkJson {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address?: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly link?: string | null;
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
  }[];
}

interface HopJson {
  readonly dev?: string;
  readonly gateway?: string;
  readonly via?: unknown;
  readonly encap?: string;
}

interface RouteJson extends HopJson {
  readonly dst: string;
  readonly prefsrc?: string;
  readonly metric?: number;
  readonly type?: string;
  readonly nexthops?: readonly HopJson[];
}

/** iproute2 writes an encapsulation's fields into its route's object: the second `dst` is the tunnel's other end, or a label. */
const SECOND_DST = /("encap":"[^"]*"(?:,"(?!dst")\w+":(?:"[^"]*"|[^",{}[\]]+))*),"dst":"[^"]*"/g;

function ip<T>(words: string): T {
  const text = execFileSync("ip", ["-json", ...words.split(" ")], { encoding: "utf8", maxBuffer: 64 << 20 });
  return JSON.parse(text === "" ? "[]" : text.replace(SECOND_DST, "$1")) as T;
}

function macOf(text = ""): Uint8Array {
  const parts = text.split(":").map((part) => Number.parseInt(part, 16));
  return Uint8Array.from(parts.length === 6 ? parts : [0, 0, 0, 0, 0, 0]);
}

function deviceOf(link: LinkJson, links: readonly LinkJson[]): Device {
  const addresses = (link.addr_info ?? []).flatMap(({ local, prefixlen, scope, temporary, deprecated }) => {
    const address = canonicalAddress(local ?? "");
    const isLasting = scope === "global" && temporary !== true && deprecated !== true;
    return address === undefined || !isLasting ? [] : [{ address, length: prefixlen }];
  });
  const other = link.link_index ?? links.find(({ ifname }) => ifname === link.link)?.ifindex;
  const kind = link.linkinfo?.info_kind ?? "";
  return {
    name: link.ifname,
    ifindex: link.ifindex,
    mac: macOf(link.address),
    mtu: link.mtu,
    up: link.flags.includes("UP"),
    running: link.flags.includes("LOWER_UP"),
    master: link.master ?? "",
    lower: link.link ?? "",
    kind,
    linkType: link.link_type,
    addresses,
    farEnd: kind === "veth" && other !== undefined ? { ifindex: other, netns: link.link_netnsid } : undefined,
  };
}

function routesOf(json: readonly RouteJson[], any: string): Route[] {
  return json.flatMap((route) => {
    const { dst, type = "unicast", prefsrc, metric, nexthops } = route;
    const [text = "", length] = dst === "default" ? [any, "0"] : dst.split("/");
    const address = canonicalAddress(text);
    if (type !== "unicast" || address === undefined) return [];
    return (nexthops ?? [route]).flatMap((hop): Route[] => {
      if (hop.dev === undefined) return [];
      return [
        {
          address,
          length: length === undefined ? (familyOf(address) === "IPv4" ? 32 : 128) : Number(length),
          isDefault: dst === "default",
          device: hop.dev,
          viaGateway: hop.gateway !== undefined || hop.via !== undefined,
          encapsulation: hop.encap ?? "",
          source: prefsrc ?? "",
          metric: metric ?? 0,
        },
      ];
    });
  });
}

const asksForSource = ({ src }: { readonly src?: string }): boolean => src !== undefined && src !== "all";

/** Of the namespace that the calling thread stands in. */
export function networkByIproute2(): Network {
  const links = ip<LinkJson[]>("-details address show");
  const rules = ["-4 rule show", "-6 rule show"].flatMap((words) => ip<{ readonly src?: string }[]>(words));
  return {
    devices: links.map((link) => deviceOf(link, links)),
    routes: [...routesOf(ip("-4 route show"), "0.0.0.0"), ...routesOf(ip("-6 route show"), "::")],
    routesBySource: rules.some(asksForSource),
  };
}
