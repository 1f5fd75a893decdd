// Which DNS records the Services and EndpointSlices of a cluster make, by the Kubernetes DNS specification 1.1.0: question
// in, answer out. No socket and no packet here, and nothing is ever asked of anybody else. A question makes only the records
// that it asks for: what a Service has is gathered once after each change of it.
import type { SoaData, SrvData } from "dns-packet";
import {
  type Address,
  addressBytes,
  addressFromBigInt,
  canonicalAddress,
  type Family,
  familyOf,
} from "../lib/address.ts";
import { Multimap } from "../lib/multimap.ts";
import type { EndpointSlice, ObjectEvent, Service } from "../model/objects.ts";

export type DnsRecord = { readonly name: string; readonly ttl: number } & (
  | { readonly type: "A" | "AAAA" | "CNAME" | "PTR" | "NS"; readonly data: string }
  | { readonly type: "TXT"; readonly data: readonly string[] }
  | { readonly type: "SRV"; readonly data: Readonly<Required<SrvData>> }
  | { readonly type: "SOA"; readonly data: Readonly<Required<SoaData>> }
);

export interface DnsAnswer {
  readonly rcode: "NOERROR" | "NXDOMAIN" | "REFUSED";
  /** False for refused questions: somebody else's names. */
  readonly authoritative: boolean;
  readonly answers: readonly DnsRecord[];
  /** The SOA record, for NXDOMAIN and for names without a record of the type asked for (RFC 2308). */
  readonly authorities: readonly DnsRecord[];
  /** Addresses of SRV targets. */
  readonly additionals: readonly DnsRecord[];
}

export interface DnsRecords {
  update(events: readonly ObjectEvent[]): void;
  /**
   * `name` as asked, any case, with or without final dot; `type` as dns-packet names it. Several answers are turned by one
   * place each time; no more than `most` of them, and the additionals of those, are made.
   */
  answer(name: string, type: string, most?: number): DnsAnswer;
  /** Some slice has an endpoint there, ready or not. */
  isEndpoint(address: Address): boolean;
}

export const TTL_SECONDS = 5;
export const SCHEMA_VERSION = "1.1.0";
const MAX_CNAMES = 8;

/** A target of SRV records: the label of an endpoint. */
interface Target {
  readonly port: number;
  readonly label: string;
}

type ByFamily = Readonly<Record<Family, readonly Address[]>>;

/** The ready endpoints of a Service. */
interface Ready {
  readonly addresses: ByFamily;
  /** By label: the host name, or the address with dashes. */
  readonly labels: Multimap<string, Address>;
  readonly labelsAt: Multimap<Address, string>;
  /** By "name/protocol" of the port, in lower case; "" has those of all ports. */
  readonly targets: ReadonlyMap<string, readonly Target[]>;
}

/** Records of one type, made one by one. */
interface RecordList {
  readonly type: DnsRecord["type"];
  readonly length: number;
  at(index: number): DnsRecord;
}

/** What a name is, if it exists. */
interface Found {
  readonly lists: readonly RecordList[];
  /** Addresses of an SRV record's target. */
  readonly addressesOf?: (target: string) => readonly Address[];
  /** The name's only record, whatever is asked. */
  readonly alias?: string;
}

const NODATA: Found = { lists: [] };

function listOf<T>(type: DnsRecord["type"], items: readonly T[], make: (item: T) => DnsRecord): RecordList {
  return { type, length: items.length, at: (index) => make(items[index]!) };
}

function byFamily(addresses: Iterable<Address>): ByFamily {
  const found: Record<Family, Address[]> = { IPv4: [], IPv6: [] };
  for (const one of addresses) found[familyOf(one)].push(one);
  return found;
}

/** Records of `clusterDomain`, such as "cluster.local". */
export function createDnsRecords(clusterDomain: string): DnsRecords {
  const zone = clusterDomain.toLowerCase().replace(/^\.+|\.+$/g, "");
  const services = new Map<string, Service>();
  const namespaces = new Map<string, number>();
  const slices = new Map<string, EndpointSlice>();
  const slicesOf = new Multimap<string, string>();
  const byClusterIP = new Map<Address, string>();
  /** The Services with an endpoint there, ready or not, and how often they have it. */
  const byEndpoint = new Map<Address, Map<string, number>>();
  const gathered = new Map<string, Ready>();
  let serial = 1;
  let turn = 0;

  const record = (name: string, type: "A" | "AAAA" | "CNAME" | "PTR" | "NS", data: string): DnsRecord => ({
    name,
    type,
    ttl: TTL_SECONDS,
    data,
  });
  const addressRecord = (name: string, address: Address): DnsRecord =>
    record(name, familyOf(address) === "IPv4" ? "A" : "AAAA", address);
  const addressLists = (name: string, { IPv4, IPv6 }: ByFamily): readonly RecordList[] => [
    listOf("A", IPv4, (one) => record(name, "A", one)),
    listOf("AAAA", IPv6, (one) => record(name, "AAAA", one)),
  ];
  const serviceName = (key: string): string => {
    const slash = key.indexOf("/");
    return `${key.slice(slash + 1)}.${key.slice(0, slash)}.svc.${zone}`;
  };

  function soa(): DnsRecord {
    const [mname, rname] = [`ns.dns.${zone}`, `hostmaster.${zone}`];
    const data = { mname, rname, serial, refresh: 7200, retry: 1800, expire: 86400, minimum: TTL_SECONDS };
    return { name: zone, type: "SOA", ttl: TTL_SECONDS, data };
  }

  function setService(key: string, service: Service | undefined): void {
    const before = services.get(key);
    if (before !== undefined) {
      for (const address of before.clusterIPs) if (byClusterIP.get(address) === key) byClusterIP.delete(address);
      const left = (namespaces.get(before.namespace) ?? 1) - 1;
      if (left === 0) namespaces.delete(before.namespace);
      else namespaces.set(before.namespace, left);
      services.delete(key);
    }
    if (service === undefined) return;
    services.set(key, service);
    namespaces.set(service.namespace, (namespaces.get(service.namespace) ?? 0) + 1);
    for (const address of service.clusterIPs) byClusterIP.set(address, key);
  }

  function count(slice: EndpointSlice, by: number): void {
    const service = `${slice.namespace}/${slice.service}`;
    gathered.delete(service);
    for (const { addresses } of slice.endpoints) {
      for (const address of addresses) {
        const users = byEndpoint.get(address) ?? new Map<string, number>();
        const left = (users.get(service) ?? 0) + by;
        if (left > 0) byEndpoint.set(address, users.set(service, left));
        else if (users.delete(service) && users.size === 0) byEndpoint.delete(address);
      }
    }
  }

  function setSlice(key: string, slice: EndpointSlice | undefined): void {
    const before = slices.get(key);
    if (before !== undefined) {
      count(before, -1);
      slices.delete(key);
      slicesOf.delete(`${before.namespace}/${before.service}`, key);
    }
    if (slice === undefined) return;
    slices.set(key, slice);
    slicesOf.add(`${slice.namespace}/${slice.service}`, key);
    count(slice, 1);
  }

  function gather(key: string): Ready {
    const addresses = new Set<Address>();
    const labels = new Multimap<string, Address>();
    const labelsAt = new Multimap<Address, string>();
    const targets = new Map<string, Map<string, Target>>();
    for (const slice of slicesOf.get(key).flatMap((one) => slices.get(one) ?? [])) {
      const ports = slice.ports.map(({ name, protocol, port }) => ({ id: `${name}/${protocol}`.toLowerCase(), port }));
      for (const id of ["", ...ports.map((one) => one.id)]) if (!targets.has(id)) targets.set(id, new Map());
      for (const endpoint of slice.endpoints) {
        if (!endpoint.ready) continue;
        for (const address of endpoint.addresses) {
          const label = endpoint.hostname || addressLabel(address);
          addresses.add(address);
          labels.add(label, address);
          labelsAt.add(address, label);
          for (const { id, port } of ports) {
            const target = { port, label };
            targets.get(id)?.set(`${label} ${port}`, target);
            targets.get("")?.set(`${label} ${port}`, target);
          }
        }
      }
    }
    const lists = new Map([...targets].map(([id, found]) => [id, [...found.values()]]));
    return { addresses: byFamily(addresses), labels, labelsAt, targets: lists };
  }

  function readyOf(key: string): Ready {
    const ready = gathered.get(key) ?? gather(key);
    gathered.set(key, ready);
    return ready;
  }

  function srvList(name: string, targets: readonly Target[], full: string): RecordList {
    const weight = Math.max(1, Math.floor(100 / Math.max(1, targets.length)));
    return listOf("SRV", targets, ({ port, label }) => ({
      name,
      type: "SRV",
      ttl: TTL_SECONDS,
      data: { priority: 0, weight, port, target: label === "" ? full : `${label}.${full}` },
    }));
  }

  function ofService(name: string, key: string, service: Service): Found | undefined {
    if (service.type === "ExternalName") return { lists: [], alias: service.externalName };
    const full = serviceName(key);
    if (!service.headless) {
      const ports = service.ports.map(({ port }) => ({ port, label: "" }));
      return {
        lists: [...addressLists(name, byFamily(service.clusterIPs)), srvList(name, ports, full)],
        addressesOf: () => service.clusterIPs,
      };
    }
    const { addresses, targets } = readyOf(key);
    // The specification wants NXDOMAIN, not an empty answer, while nobody is ready.
    if (addresses.IPv4.length + addresses.IPv6.length === 0) return undefined;
    return {
      lists: [...addressLists(name, addresses), srvList(name, targets.get("") ?? [], full)],
      addressesOf: addressesUnder(key),
    };
  }

  /** Of the endpoints whose name is `target`. */
  const addressesUnder = (key: string) => (target: string) =>
    readyOf(key).labels.get(target.slice(0, -serviceName(key).length - 1));

  // "_port._proto.service", "_proto.service", "host.service": what stands before a Service's name.
  function beforeService(name: string, labels: readonly string[], key: string, service: Service): Found | undefined {
    // Nothing is below an alias, whatever it leads to: search lists would lead astray.
    if (service.type === "ExternalName") return undefined;
    const [first = "", second = ""] = labels;
    if (labels.length <= 2 && labels.every((label) => label.startsWith("_"))) {
      const protocol = (labels.length === 2 ? second : first).slice(1);
      const named = labels.length === 2 ? first.slice(1) : undefined;
      const isAsked = (id: string): boolean =>
        named === undefined
          ? id.endsWith(`/${protocol}`) && !id.startsWith("/")
          : named !== "" && id === `${named}/${protocol}`;
      const targets = service.headless
        ? [...readyOf(key).targets].flatMap(([id, list]) => (isAsked(id) ? list : []))
        : service.ports
            .filter((port) => isAsked(`${port.name}/${port.protocol}`.toLowerCase()))
            .map(({ port }) => ({ port, label: "" }));
      if (targets.length === 0) return undefined;
      if (named === undefined) return NODATA;
      return {
        lists: [srvList(name, targets, serviceName(key))],
        addressesOf: service.headless ? addressesUnder(key) : () => service.clusterIPs,
      };
    }
    const addresses = labels.length === 1 ? readyOf(key).labels.get(first) : [];
    return addresses.length === 0 ? undefined : { lists: addressLists(name, byFamily(addresses)) };
  }

  function ofPodName(name: string, label: string, namespace: string): Found | undefined {
    const text = /^\d+-\d+-\d+-\d+$/.test(label) ? label.replaceAll("-", ".") : label.replaceAll("-", ":");
    const address = canonicalAddress(text);
    if (address === undefined) return undefined;
    const users = [...(byEndpoint.get(address)?.keys() ?? [])].filter((key) => key.startsWith(`${namespace}/`));
    return users.some((key) => readyOf(key).labelsAt.has(address))
      ? { lists: addressLists(name, byFamily([address])) }
      : undefined;
  }

  /** What `name`, in lower case and inside the zone, is; undefined when it does not exist. */
  function inZone(name: string): Found | undefined {
    if (name === zone)
      return { lists: [listOf("SOA", [0], soa), listOf("NS", [`ns.dns.${zone}`], (one) => record(zone, "NS", one))] };
    const labels = name.slice(0, -zone.length - 1).split(".");
    const last = labels.at(-1);
    if (labels.some((label) => label === "")) return undefined;
    if (last === "dns-version" && labels.length === 1)
      return {
        lists: [listOf("TXT", [SCHEMA_VERSION], (one) => ({ name, type: "TXT", ttl: TTL_SECONDS, data: [one] }))],
      };
    if (last === "dns") {
      if (labels.length === 1) return NODATA;
      const own = services.get("kube-system/kube-dns")?.clusterIPs ?? [];
      return labels.length === 2 && labels[0] === "ns" ? { lists: addressLists(name, byFamily(own)) } : undefined;
    }
    if (last !== "svc" && last !== "pod") return undefined;
    const namespace = labels.at(-2);
    if (namespace === undefined) return NODATA;
    if (!namespaces.has(namespace)) return undefined;
    if (labels.length === 2) return NODATA;
    if (last === "pod") return labels.length === 3 ? ofPodName(name, labels[0] ?? "", namespace) : undefined;
    const key = `${namespace}/${labels.at(-3)}`;
    const service = services.get(key);
    if (service === undefined) return undefined;
    return labels.length === 3 ? ofService(name, key, service) : beforeService(name, labels.slice(0, -3), key, service);
  }

  function reverse(name: string): readonly string[] {
    const address = addressOfReverseName(name);
    if (address === undefined) return [];
    const service = byClusterIP.get(address);
    if (service !== undefined) return [serviceName(service)];
    const keys = [...(byEndpoint.get(address)?.keys() ?? [])].filter((key) => services.get(key)?.headless === true);
    return keys.flatMap((key) =>
      readyOf(key)
        .labelsAt.get(address)
        .map((label) => `${label}.${serviceName(key)}`),
    );
  }

  /** The first `most` records of the lists, begun at another place each time. */
  function taken(lists: readonly RecordList[], most: number): readonly DnsRecord[] {
    const total = lists.reduce((sum, one) => sum + one.length, 0);
    const start = total < 2 ? 0 : turn++ % total;
    return Array.from({ length: Math.min(total, most) }, (_, i) => {
      let at = (start + i) % total;
      for (const list of lists) {
        if (at < list.length) return list.at(at);
        at -= list.length;
      }
      throw new Error("no such record");
    });
  }

  function answer(asked: string, type: string, most = Number.POSITIVE_INFINITY): DnsAnswer {
    const name = asked.toLowerCase().replace(/\.$/, "");
    const isOurs = (one: string): boolean => one === zone || one.endsWith(`.${zone}`);
    const none: DnsAnswer = { rcode: "NOERROR", authoritative: true, answers: [], authorities: [], additionals: [] };
    if (!isOurs(name)) {
      const found = reverse(name);
      if (found.length === 0) return { ...none, rcode: "REFUSED", authoritative: false };
      const list = listOf("PTR", found, (one) => record(name, "PTR", one));
      return type === "PTR" || type === "ANY" ? { ...none, answers: taken([list], most) } : none;
    }
    const aliases: DnsRecord[] = [];
    let current = name;
    let found = inZone(current);
    while (found?.alias !== undefined) {
      aliases.push(record(current, "CNAME", found.alias));
      if (type === "CNAME" || !isOurs(found.alias) || aliases.length > MAX_CNAMES) return { ...none, answers: aliases };
      current = found.alias;
      found = inZone(current);
    }
    const lists = (found?.lists ?? []).filter((one) => one.type === type || (type === "ANY" && one.type !== "SRV"));
    const records = taken(lists, most);
    const targets = new Set(records.flatMap((one) => (one.type === "SRV" && type === "SRV" ? one.data.target : [])));
    return {
      rcode: found === undefined ? "NXDOMAIN" : "NOERROR",
      authoritative: true,
      answers: [...aliases, ...records],
      authorities: records.length === 0 ? [soa()] : [],
      additionals: [...targets].flatMap((target) =>
        (found?.addressesOf?.(target) ?? []).slice(0, most).map((address) => addressRecord(target, address)),
      ),
    };
  }

  return {
    update(events) {
      for (const event of events) {
        if (event.kind === "Service") setService(event.key, event.object);
        else if (event.kind === "EndpointSlice") setSlice(event.key, event.object);
      }
      serial = (serial + 1) >>> 0;
    },
    answer,
    isEndpoint: (address) => byEndpoint.has(address),
  };
}

/** An address as one label of a name: its dots or colons become dashes. */
export function addressLabel(address: Address): string {
  if (familyOf(address) === "IPv4") return address.replaceAll(".", "-");
  // A label may not begin or end with a dash, so the short form with "::" at its end cannot be taken.
  const bytes = addressBytes(address);
  return Array.from({ length: 8 }, (_, i) => (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16)).join(
    "-",
  );
}

/** The address of a name under in-addr.arpa or ip6.arpa, undefined for other names. */
export function addressOfReverseName(name: string): Address | undefined {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (four !== null) return canonicalAddress(`${four[4]}.${four[3]}.${four[2]}.${four[1]}`);
  const six = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (six === null) return undefined;
  return addressFromBigInt(BigInt(`0x${[...(six[1] ?? "").replaceAll(".", "")].reverse().join("")}`), "IPv6");
}
