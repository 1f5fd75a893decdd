// Questions and answers by the Kubernetes DNS specification, as tables.
import { expect, test } from "vitest";
import type { EndpointSlice, ObjectEvent, Service } from "../../src/model/objects.ts";
import {
  addressLabel,
  addressOfReverseName,
  createDnsRecords,
  type DnsRecord,
} from "../../src/standalone/dns-records.ts";
import { normaliseEndpointSlice, normaliseService } from "../../src/wire/normalise.ts";
import { type Any, service, slice } from "./build.ts";

const put = (one: Service | EndpointSlice, kind: "Service" | "EndpointSlice"): ObjectEvent =>
  ({ kind, key: `${one.namespace}/${one.name}`, object: one }) as ObjectEvent;
const svc = (name: string, spec: Any = {}, metadata: Any = {}): ObjectEvent =>
  put(normaliseService(service(name, spec, metadata) as Any), "Service");
const eps = (name: string, of: string, fields: Any): ObjectEvent =>
  put(normaliseEndpointSlice(slice(name, of, fields) as Any).slice!, "EndpointSlice");

const EVENTS: ObjectEvent[] = [
  svc("web", {
    clusterIPs: ["10.96.1.1", "fd00:10:96::1"],
    ports: [
      { name: "http", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" },
    ],
  }),
  svc("plain", { clusterIP: "10.96.1.2" }),
  svc("kube-dns", { clusterIP: "10.96.0.10" }, { namespace: "kube-system" }),
  svc("db", { clusterIP: "None", ports: [{ name: "sql", port: 5432 }] }),
  eps("db-1", "db", {
    ports: [{ name: "sql", port: 15432 }],
    endpoints: [
      { addresses: ["10.244.1.1"], hostname: "first", conditions: { ready: true } },
      { addresses: ["10.244.1.2"], conditions: { ready: true } },
      { addresses: ["10.244.1.3"], conditions: { ready: false, serving: true, terminating: true } },
    ],
  }),
  svc("idle", { clusterIP: "None" }),
  eps("idle-1", "idle", { endpoints: [{ addresses: ["10.244.1.9"], conditions: { ready: false } }] }),
  svc("six", { clusterIP: "None" }),
  eps("six-1", "six", { addressType: "IPv6", endpoints: [{ addresses: ["fd00::5"] }] }),
  svc("inside", { type: "ExternalName", externalName: "web.default.svc.cluster.local" }),
  svc("outside", { type: "ExternalName", externalName: "www.example.com." }),
  svc("nowhere", { type: "ExternalName", externalName: "gone.default.svc.cluster.local" }),
  svc("loop", { type: "ExternalName", externalName: "loop.default.svc.cluster.local" }),
];

function text(record: DnsRecord): string {
  const data =
    record.type === "SRV"
      ? `${record.data.priority} ${record.data.weight} ${record.data.port} ${record.data.target}`
      : record.type === "SOA"
        ? record.data.mname
        : String(record.data);
  return `${record.name} ${record.type} ${data}`;
}

const N = "default.svc.cluster.local";

const QUESTIONS: { ask: string; rcode?: string; answers?: string[]; additionals?: string[] }[] = [
  { ask: `web.${N} A`, answers: [`web.${N} A 10.96.1.1`] },
  { ask: `web.${N}. A`, answers: [`web.${N} A 10.96.1.1`] },
  { ask: `WEB.Default.SVC.Cluster.LOCAL A`, answers: [`web.${N} A 10.96.1.1`] },
  { ask: `web.${N} AAAA`, answers: [`web.${N} AAAA fd00:10:96::1`] },
  { ask: `plain.${N} AAAA`, answers: [] },
  { ask: `web.${N} MX`, answers: [] },
  { ask: `web.${N} UNKNOWN_65`, answers: [] },
  { ask: `none.${N} A`, rcode: "NXDOMAIN" },
  { ask: "web.other.svc.cluster.local A", rcode: "NXDOMAIN" },
  { ask: `${N} A`, answers: [] },
  { ask: "other.svc.cluster.local A", rcode: "NXDOMAIN" },
  { ask: "svc.cluster.local A", answers: [] },
  { ask: "cluster.local A", answers: [] },
  { ask: "cluster.local SOA", answers: ["cluster.local SOA ns.dns.cluster.local"] },
  { ask: "cluster.local NS", answers: ["cluster.local NS ns.dns.cluster.local"] },
  { ask: "ns.dns.cluster.local A", answers: ["ns.dns.cluster.local A 10.96.0.10"] },
  { ask: "web.default.cluster.local A", rcode: "NXDOMAIN" },
  { ask: "dns-version.cluster.local TXT", answers: ["dns-version.cluster.local TXT 1.1.0"] },
  { ask: "dns-version.cluster.local A", answers: [] },
  {
    ask: `_http._tcp.web.${N} SRV`,
    answers: [`_http._tcp.web.${N} SRV 0 100 80 web.${N}`],
    additionals: [`web.${N} A 10.96.1.1`, `web.${N} AAAA fd00:10:96::1`],
  },
  { ask: `_dns._udp.web.${N} SRV`, answers: [`_dns._udp.web.${N} SRV 0 100 53 web.${N}`] },
  { ask: `_http._udp.web.${N} SRV`, rcode: "NXDOMAIN" },
  { ask: `_http._tcp.web.${N} A`, answers: [] },
  { ask: `_tcp.web.${N} SRV`, answers: [] },
  { ask: `_sctp.web.${N} SRV`, rcode: "NXDOMAIN" },
  { ask: `_http._tcp.plain.${N} SRV`, rcode: "NXDOMAIN" },
  { ask: `db.${N} A`, answers: [`db.${N} A 10.244.1.1`, `db.${N} A 10.244.1.2`] },
  { ask: `db.${N} AAAA`, answers: [] },
  { ask: `first.db.${N} A`, answers: [`first.db.${N} A 10.244.1.1`] },
  { ask: `10-244-1-2.db.${N} A`, answers: [`10-244-1-2.db.${N} A 10.244.1.2`] },
  { ask: `10-244-1-3.db.${N} A`, rcode: "NXDOMAIN" },
  { ask: `third.db.${N} A`, rcode: "NXDOMAIN" },
  {
    ask: `_sql._tcp.db.${N} SRV`,
    answers: [`_sql._tcp.db.${N} SRV 0 50 15432 10-244-1-2.db.${N}`, `_sql._tcp.db.${N} SRV 0 50 15432 first.db.${N}`],
    additionals: [`10-244-1-2.db.${N} A 10.244.1.2`, `first.db.${N} A 10.244.1.1`],
  },
  { ask: `idle.${N} A`, rcode: "NXDOMAIN" },
  { ask: `six.${N} AAAA`, answers: [`six.${N} AAAA fd00::5`] },
  { ask: `six.${N} A`, answers: [] },
  { ask: `fd00-0-0-0-0-0-0-5.six.${N} AAAA`, answers: [`fd00-0-0-0-0-0-0-5.six.${N} AAAA fd00::5`] },
  { ask: `inside.${N} A`, answers: [`inside.${N} CNAME web.${N}`, `web.${N} A 10.96.1.1`] },
  { ask: `inside.${N} CNAME`, answers: [`inside.${N} CNAME web.${N}`] },
  { ask: `outside.${N} A`, answers: [`outside.${N} CNAME www.example.com`] },
  // Nothing is below an alias, whatever it points to: a search list would end there.
  { ask: `web.outside.${N} A`, rcode: "NXDOMAIN" },
  { ask: `web.inside.${N} A`, rcode: "NXDOMAIN" },
  { ask: `_http._tcp.inside.${N} SRV`, rcode: "NXDOMAIN" },
  { ask: `_http._tcp.web.outside.${N} SRV`, rcode: "NXDOMAIN" },
  { ask: `nowhere.${N} A`, rcode: "NXDOMAIN", answers: [`nowhere.${N} CNAME gone.${N}`] },
  { ask: "10-244-1-1.default.pod.cluster.local A", answers: ["10-244-1-1.default.pod.cluster.local A 10.244.1.1"] },
  { ask: "10-244-9-9.default.pod.cluster.local A", rcode: "NXDOMAIN" },
  { ask: "1.1.96.10.in-addr.arpa PTR", answers: [`1.1.96.10.in-addr.arpa PTR web.${N}`] },
  { ask: "1.1.244.10.in-addr.arpa PTR", answers: [`1.1.244.10.in-addr.arpa PTR first.db.${N}`] },
  { ask: "2.1.244.10.in-addr.arpa PTR", answers: [`2.1.244.10.in-addr.arpa PTR 10-244-1-2.db.${N}`] },
  {
    ask: `1.${"0.".repeat(19)}6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa PTR`,
    answers: [`1.${"0.".repeat(19)}6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa PTR web.${N}`],
  },
  { ask: "9.9.9.9.in-addr.arpa PTR", rcode: "REFUSED" },
  { ask: "www.example.com A", rcode: "REFUSED" },
  { ask: "notcluster.local A", rcode: "REFUSED" },
  { ask: "local A", rcode: "REFUSED" },
  { ask: ". NS", rcode: "REFUSED" },
];

test.each(QUESTIONS)("$ask", ({ ask, rcode = "NOERROR", answers = [], additionals }) => {
  const records = createDnsRecords("cluster.local");
  records.update(EVENTS);
  const [name = "", type = ""] = ask.split(" ");
  const answer = records.answer(name, type);
  expect(answer.rcode).toBe(rcode);
  expect(answer.answers.map(text).sort()).toEqual([...answers].sort());
  if (additionals !== undefined) expect(answer.additionals.map(text).sort()).toEqual([...additionals].sort());
  expect([...answer.answers, ...answer.authorities, ...answer.additionals].every((one) => one.ttl === 5)).toBe(true);
  const negative = rcode === "NXDOMAIN" || (rcode === "NOERROR" && answers.length === 0);
  expect(answer.authorities.map((one) => one.type)).toEqual(negative ? ["SOA"] : []);
  expect(answer.authoritative).toBe(rcode !== "REFUSED");
});

test("pods of one host name are all found under it, and their reverse name is the headless Service's only", () => {
  const records = createDnsRecords("cluster.local");
  const twins = ["10.244.5.1", "10.244.5.2"].map((one) => ({ addresses: [one], hostname: "twin" }));
  records.update([
    svc("family", { clusterIP: "None" }),
    eps("family-1", "family", { ports: [{ name: "web", port: 80 }], endpoints: twins }),
    svc("front", { clusterIP: "10.96.7.3" }),
    eps("front-1", "front", { endpoints: twins }),
  ]);
  const ask = (name: string, type: string): string[] => records.answer(name, type).answers.map(text).sort();
  for (const name of [`family.${N}`, `twin.family.${N}`])
    expect(ask(name, "A")).toEqual([`${name} A 10.244.5.1`, `${name} A 10.244.5.2`]);
  expect(ask(`_web._tcp.family.${N}`, "SRV")).toEqual([`_web._tcp.family.${N} SRV 0 100 80 twin.family.${N}`]);
  for (const name of ["1.5.244.10.in-addr.arpa", "2.5.244.10.in-addr.arpa"])
    expect(ask(name, "PTR")).toEqual([`${name} PTR twin.family.${N}`]);
  expect(ask("3.7.96.10.in-addr.arpa", "PTR")).toEqual([`3.7.96.10.in-addr.arpa PTR front.${N}`]);
});

test("a chain of names that leads to itself ends", () => {
  const records = createDnsRecords("cluster.local");
  records.update(EVENTS);
  const { answers, rcode } = records.answer(`loop.${N}`, "A");
  expect(rcode).toBe("NOERROR");
  expect(answers.length).toBeLessThan(12);
});

test("several answers take turns at the first place", () => {
  const records = createDnsRecords("cluster.local");
  records.update(EVENTS);
  const first = new Set(Array.from({ length: 4 }, () => text(records.answer(`db.${N}`, "A").answers[0]!)));
  expect(first.size).toBe(2);
});

test("what changes is answered anew, and what is gone is gone", () => {
  const records = createDnsRecords("cluster.local");
  records.update(EVENTS);
  records.update([
    svc("web", { clusterIP: "10.96.1.7" }),
    { kind: "EndpointSlice", key: "default/db-1", object: undefined },
    { kind: "Service", key: "default/plain", object: undefined },
  ]);
  expect(records.answer(`web.${N}`, "A").answers.map(text)).toEqual([`web.${N} A 10.96.1.7`]);
  expect(records.answer("1.1.96.10.in-addr.arpa", "PTR").rcode).toBe("REFUSED");
  expect(records.answer("7.1.96.10.in-addr.arpa", "PTR").answers.map(text)).toEqual([
    `7.1.96.10.in-addr.arpa PTR web.${N}`,
  ]);
  expect(records.answer(`db.${N}`, "A").rcode).toBe("NXDOMAIN");
  expect(records.answer("1.1.244.10.in-addr.arpa", "PTR").rcode).toBe("REFUSED");
  expect(records.answer(`plain.${N}`, "A").rcode).toBe("NXDOMAIN");
});

test("another cluster domain is another zone", () => {
  const records = createDnsRecords("k8s.example.org");
  records.update(EVENTS);
  expect(records.answer("web.default.svc.k8s.example.org", "A").answers).toHaveLength(1);
  expect(records.answer(`web.${N}`, "A").rcode).toBe("REFUSED");
});

test.each(["10.1.2.3", "fd00::5", "2001:db8::"])("the label of %s is a label", (address) => {
  expect(addressLabel(address)).toMatch(/^[0-9a-f]([0-9a-f-]*[0-9a-f])?$/);
});

test.each(["", "x.in-addr.arpa", "1.2.3.in-addr.arpa", "300.1.1.1.in-addr.arpa", "1.ip6.arpa", "g".repeat(64)])(
  "%j is no reverse name",
  (name) => {
    expect(addressOfReverseName(name)).toBeUndefined();
  },
);
