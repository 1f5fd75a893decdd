// Which DNS records the Services and EndpointSlices of a cluster make, by the Kubernetes DNS specification 1.1.0: question
// in, answer out. No socket and no packet here, and nothing is ever asked of anybody else.
import { type Address, addressBytes, addressFromBigInt, canonicalAddress, familyOf } from "../lib/address.ts";
import type { EndpointSlice, ObjectEvent, Service } from "../model/objects.ts";

export type DnsRecord = { readonly name: string; readonly ttl: number } & (
  | { readonly type: "A" | "AAAA" | "CNAME" | "PTR" | "NS"; readonly data: string }
  | { readonly type: "TXT"; readonly data: readonly string[] }
  | {
      readonly type: "SRV";
      readonly data: {
        readonly priority: number;
        readonly weight: number;
        readonly port: number;
        readonly target: string;
      };
    }
  | {
      readonly type: "SOA";
      readonly data: {
        readonly mname: string;
        readonly rname: string;
        readonly serial: number;
        readonly refresh: number;
        readonly retry: number;
        readonly expire: number;
        readonly minimum: number;
      };
    }
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
  /** `name` as asked, any case, with or without final dot; `type` as dns-packet names it. Several answers are turned by one place each time. */
  answer(name: string, type: string): DnsAnswer;
}

export const TTL_SECONDS = 5;
export const SCHEMA_VERSION = "1.1.0";
const MAX_CNAMES = 8;

/** An endpoint as a name sees it. */
interface Host {
  /** Its host name, or its address with dashes. */
  readonly label: string;
  readonly address: Address;
}

// What a name is: records by type, and whether it exists at all.
interface Found {
  readonly records: readonly DnsRecord[];
  readonly additionals?: readonly DnsRecord[];
  /** The name's only record, whatever is asked. */
  readonly alias?: string;
}

const NODATA: Found = { records: [] };

/** Records of `clusterDomain`, such as "cluster.local". */
export function createDnsRecords(clusterDomain: string): DnsRecords {
  const zone = clusterDomain.toLowerCase().replace(/^\.+|\.+$/g, "");
  const services = new Map<string, Service>();
  const namespaces = new Map<string, number>();
  const slices = new Map<string, EndpointSlice>();
  const slicesOf = new Map<string, Set<string>>();
  const byClusterIP = new Map<Address, string>();
  const byEndpoint = new Map<Address, Map<string, number>>();
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
  const serviceName = (key: string): string => {
    const slash = key.indexOf("/");
    return `${key.slice(slash + 1)}.${key.slice(0, slash)}.svc.${zone}`;
  };

  function soa(): DnsRecord {
    const data = {
      mname: `ns.dns.${zone}`,
      rname: `hostmaster.${zone}`,
      serial,
      refresh: 7200,
      retry: 1800,
      expire: 86400,
      minimum: TTL_SECONDS,
    };
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

  function setSlice(key: string, slice: EndpointSlice | undefined): void {
    const count = (one: EndpointSlice, by: number): void => {
      const service = `${one.namespace}/${one.service}`;
      for (const endpoint of one.endpoints) {
        if (!endpoint.ready) continue;
        for (const address of endpoint.addresses) {
          const users = byEndpoint.get(address) ?? new Map<string, number>();
          const left = (users.get(service) ?? 0) + by;
          if (left > 0) users.set(service, left);
          else users.delete(service);
          if (users.size > 0) byEndpoint.set(address, users);
          else byEndpoint.delete(address);
        }
      }
    };
    const before = slices.get(key);
    if (before !== undefined) {
      count(before, -1);
      slices.delete(key);
      const service = `${before.namespace}/${before.service}`;
      slicesOf.get(service)?.delete(key);
      if (slicesOf.get(service)?.size === 0) slicesOf.delete(service);
    }
    if (slice === undefined) return;
    slices.set(key, slice);
    const service = `${slice.namespace}/${slice.service}`;
    slicesOf.set(service, (slicesOf.get(service) ?? new Set()).add(key));
    count(slice, 1);
  }

  function readyHosts(key: string): readonly Host[] {
    const hosts = new Map<string, Host>();
    for (const name of slicesOf.get(key) ?? []) {
      for (const endpoint of slices.get(name)?.endpoints ?? []) {
        if (!endpoint.ready) continue;
        for (const address of endpoint.addresses) {
          const host = { label: endpoint.hostname || addressLabel(address), address };
          hosts.set(`${host.label} ${address}`, host);
        }
      }
    }
    return [...hosts.values()];
  }

  function ofService(name: string, key: string, service: Service): Found | undefined {
    if (service.type === "ExternalName") return { records: [], alias: service.externalName };
    const full = serviceName(key);
    if (service.headless) {
      const hosts = readyHosts(key);
      // The specification wants NXDOMAIN, not an empty answer, while nobody is ready.
      if (hosts.length === 0) return undefined;
      const addresses = [...new Set(hosts.map((host) => host.address))];
      const srv = headlessPorts(key, () => true);
      return {
        records: [...addresses.map((one) => addressRecord(name, one)), ...srvRecords(name, full, srv)],
        additionals: hosts.map((host) => addressRecord(`${host.label}.${full}`, host.address)),
      };
    }
    const addresses = service.clusterIPs.map((one) => addressRecord(name, one));
    const ports = service.ports.map((port) => ({ port: port.port, target: full }));
    return {
      records: [...addresses, ...srvOf(name, ports)],
      additionals: service.clusterIPs.map((one) => addressRecord(full, one)),
    };
  }

  function headlessPorts(
    key: string,
    wanted: (name: string, protocol: string) => boolean,
  ): readonly { readonly port: number; readonly label: string }[] {
    const found = new Map<string, { port: number; label: string }>();
    for (const sliceKey of slicesOf.get(key) ?? []) {
      const slice = slices.get(sliceKey);
      for (const port of slice?.ports ?? []) {
        if (!wanted(port.name, port.protocol)) continue;
        for (const endpoint of slice?.endpoints ?? []) {
          if (!endpoint.ready) continue;
          for (const address of endpoint.addresses) {
            const label = endpoint.hostname || addressLabel(address);
            found.set(`${label} ${port.port}`, { port: port.port, label });
          }
        }
      }
    }
    return [...found.values()];
  }

  function srvRecords(
    name: string,
    full: string,
    hosts: readonly { readonly port: number; readonly label: string }[],
  ): readonly DnsRecord[] {
    return srvOf(
      name,
      hosts.map(({ port, label }) => ({ port, target: `${label}.${full}` })),
    );
  }

  function srvOf(
    name: string,
    targets: readonly { readonly port: number; readonly target: string }[],
  ): readonly DnsRecord[] {
    const weight = Math.max(1, Math.floor(100 / Math.max(1, targets.length)));
    return targets.map(({ port, target }) => ({
      name,
      type: "SRV",
      ttl: TTL_SECONDS,
      data: { priority: 0, weight, port, target },
    }));
  }

  // "_port._proto.service", "_proto.service", "host.service": what stands before a Service's name.
  function beforeService(name: string, labels: readonly string[], key: string, service: Service): Found | undefined {
    const full = serviceName(key);
    if (service.type === "ExternalName") return undefined;
    const [first = "", second = ""] = labels;
    if (labels.length <= 2 && labels.every((label) => label.startsWith("_"))) {
      const protocol = (labels.length === 2 ? second : first).slice(1);
      const named = labels.length === 2 ? first.slice(1) : undefined;
      const wanted = (port: string, its: string): boolean =>
        port !== "" && its.toLowerCase() === protocol && (named === undefined || port.toLowerCase() === named);
      const ports = service.headless
        ? headlessPorts(key, wanted).map(({ port, label }) => ({ port, target: `${label}.${full}` }))
        : service.ports
            .filter((port) => wanted(port.name, port.protocol))
            .map((port) => ({ port: port.port, target: full }));
      if (ports.length === 0) return undefined;
      if (named === undefined) return NODATA;
      const targets = new Set(ports.map((one) => one.target));
      const hosts = service.headless
        ? readyHosts(key)
            .map((host) => addressRecord(`${host.label}.${full}`, host.address))
            .filter((one) => targets.has(one.name))
        : service.clusterIPs.map((one) => addressRecord(full, one));
      return { records: srvOf(name, ports), additionals: hosts };
    }
    if (labels.length !== 1) return undefined;
    const addresses = new Set(
      readyHosts(key)
        .filter((host) => host.label === first)
        .map((host) => host.address),
    );
    return addresses.size === 0 ? undefined : { records: [...addresses].map((one) => addressRecord(name, one)) };
  }

  function ofPodName(name: string, label: string, namespace: string): Found | undefined {
    const text = /^\d+-\d+-\d+-\d+$/.test(label) ? label.replaceAll("-", ".") : label.replaceAll("-", ":");
    const address = canonicalAddress(text);
    const users = address === undefined ? undefined : byEndpoint.get(address);
    const known = [...(users?.keys() ?? [])].some((key) => key.startsWith(`${namespace}/`));
    return address === undefined || !known ? undefined : { records: [addressRecord(name, address)] };
  }

  /** What `name`, in lower case and inside the zone, is; undefined when it does not exist. */
  function inZone(name: string): Found | undefined {
    if (name === zone) return { records: [soa(), record(zone, "NS", `ns.dns.${zone}`)] };
    const labels = name.slice(0, -zone.length - 1).split(".");
    const last = labels.at(-1);
    if (labels.some((label) => label === "")) return undefined;
    if (last === "dns-version" && labels.length === 1)
      return { records: [{ name, type: "TXT", ttl: TTL_SECONDS, data: [SCHEMA_VERSION] }] };
    if (last === "dns") {
      if (labels.length === 1) return NODATA;
      const own = services.get("kube-system/kube-dns")?.clusterIPs ?? [];
      return labels.length === 2 && labels[0] === "ns"
        ? { records: own.map((one) => addressRecord(name, one)) }
        : undefined;
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

  function reverse(name: string): readonly DnsRecord[] {
    const address = addressOfReverseName(name);
    if (address === undefined) return [];
    const service = byClusterIP.get(address);
    if (service !== undefined) return [record(name, "PTR", serviceName(service))];
    const names = new Set<string>();
    for (const key of byEndpoint.get(address)?.keys() ?? []) {
      if (services.get(key)?.headless !== true) continue;
      for (const host of readyHosts(key)) if (host.address === address) names.add(`${host.label}.${serviceName(key)}`);
    }
    return [...names].map((one) => record(name, "PTR", one));
  }

  function matches(one: DnsRecord, type: string): boolean {
    return one.type === type || (type === "ANY" && one.type !== "SRV");
  }

  function turned<T>(list: readonly T[]): readonly T[] {
    if (list.length < 2) return list;
    const at = turn++ % list.length;
    return [...list.slice(at), ...list.slice(0, at)];
  }

  function answer(asked: string, type: string): DnsAnswer {
    const name = asked.toLowerCase().replace(/\.$/, "");
    const isOurs = (one: string): boolean => one === zone || one.endsWith(`.${zone}`);
    const refused: DnsAnswer = {
      rcode: "REFUSED",
      authoritative: false,
      answers: [],
      authorities: [],
      additionals: [],
    };
    if (!isOurs(name)) {
      const found = reverse(name);
      if (found.length === 0) return refused;
      const answers = type === "PTR" || type === "ANY" ? turned(found) : [];
      return { rcode: "NOERROR", authoritative: true, answers, authorities: [], additionals: [] };
    }
    const answers: DnsRecord[] = [];
    let current = name;
    let found = inZone(current);
    for (let hops = 0; found?.alias !== undefined; hops++) {
      answers.push(record(current, "CNAME", found.alias));
      if (type === "CNAME" || !isOurs(found.alias) || hops >= MAX_CNAMES)
        return { rcode: "NOERROR", authoritative: true, answers, authorities: [], additionals: [] };
      current = found.alias;
      found = inZone(current);
    }
    const matching = turned((found?.records ?? []).filter((one) => matches(one, type)));
    const additionals = type === "SRV" && matching.length > 0 ? [...(found?.additionals ?? [])] : [];
    const rcode = found === undefined ? "NXDOMAIN" : "NOERROR";
    return {
      rcode,
      authoritative: true,
      answers: [...answers, ...matching],
      authorities: matching.length === 0 ? [soa()] : [],
      additionals,
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
