import { describe, expect, it } from "vitest";
import {
  type CountedPort,
  createTotalsReader,
  dropViews,
  readRefusals,
  serviceCounters,
} from "../../src/agent/service-counters.ts";
import {
  HOOK_VALUES,
  REFUSAL_KEY,
  SERVICE_COUNTERS,
  VERDICT_VALUES,
  writeRefusalKey,
  writeServiceCounters,
} from "../../src/datapath/layout.gen.ts";

const CPUS = 3;

/** A per-CPU map with a row for each id: [connections, packets, bytes, socketConnections] by CPU. */
function statsMap(rows: Readonly<Record<number, readonly (readonly [number, number, number, number])[]>>) {
  const valueBytes = CPUS * SERVICE_COUNTERS.size;
  return {
    valueBytes,
    lookupInto(key: Uint8Array, value: Uint8Array): boolean {
      expect([key.length, value.length]).toEqual([4, valueBytes]);
      const row = rows[new DataView(key.buffer).getUint32(0, true)];
      row?.forEach(([connections, packets, bytes, socketConnections], cpu) => {
        writeServiceCounters(value, cpu * SERVICE_COUNTERS.size, {
          connections: BigInt(connections),
          packets: BigInt(packets),
          bytes: BigInt(bytes),
          socketConnections: BigInt(socketConnections),
        });
      });
      return row !== undefined;
    },
  };
}

const port = (over: Partial<CountedPort> = {}): CountedPort => ({
  kind: "service",
  serviceId: 1,
  service: "default/web",
  portName: "http",
  port: 80,
  protocol: "TCP",
  family: "IPv4",
  backendCount: 0,
  withoutLocal: { internal: false, external: false },
  ...over,
});
const none = () => ({ connections: 0, packets: 0, bytes: 0 });

describe("the totals of a Service port", () => {
  const totalsOf = createTotalsReader(
    statsMap({
      7: [
        [1, 10, 100, 1000],
        [2, 20, 200, 2000],
        [0, 0, 2 ** 40, 0],
      ],
      70000: [
        [5, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
      ],
    }),
    CPUS,
  );

  it("are summed over CPUs, and over what was translated at the socket and in packets", () => {
    expect(totalsOf(7)).toEqual({ connections: 3003, packets: 30, bytes: 300 + 2 ** 40 });
    expect(totalsOf(70_000)).toEqual({ connections: 5, packets: 0, bytes: 0 });
  });

  it("are zero without a row, whatever was read before", () => {
    totalsOf(7);
    expect(totalsOf(8)).toEqual(none());
  });
});

describe("the counters of all Service ports", () => {
  it("are named by the port's name, else by its number, and leave host ports out", () => {
    const ports = [
      port(),
      port({ serviceId: 2, service: "kube-system/dns", portName: "", port: 53, protocol: "UDP" }),
      port({ serviceId: 3, kind: "host-port", service: "default/pod" }),
    ];
    expect(
      [...serviceCounters(ports, none, new Map())].map((one) => [one.namespace, one.name, one.port, one.protocol]),
    ).toEqual([
      ["default", "web", "http", "TCP"],
      ["kube-system", "dns", "53", "UDP"],
    ]);
  });

  it("are read one by one, and once when a Service comes back under its id meanwhile", () => {
    const groups = new Map([1, 2, 3].map((serviceId) => [serviceId, port({ serviceId })]));
    const read: number[] = [];
    const counted = (serviceId: number) => {
      read.push(serviceId);
      return none();
    };
    const reading = serviceCounters(groups.values(), counted, new Map());
    reading.next();
    expect(read).toEqual([1]);
    groups.delete(1);
    groups.set(1, port({ serviceId: 1 }));
    groups.delete(3);
    expect([...reading]).toHaveLength(1);
    expect(read).toEqual([1, 2]);
  });
});

describe("refusals and drops", () => {
  /** A per-CPU hash with these rows: service id, hook, verdict, count by CPU. */
  function refusalsMap(rows: readonly (readonly [number, number, number, readonly number[]])[]) {
    return {
      *entries(): Generator<[Uint8Array, Uint8Array]> {
        for (const [service, hook, verdict, counts] of rows) {
          const key = new Uint8Array(REFUSAL_KEY.size);
          writeRefusalKey(key, 0, { service, hook, verdict });
          yield [key, new Uint8Array(BigUint64Array.from(counts, BigInt).buffer)];
        }
      },
    };
  }
  const { HOOK_UPLINK_INGRESS, HOOK_CONNECT } = HOOK_VALUES;
  const { VERDICT_REFUSE, DROP_NO_LOCAL_BACKEND } = VERDICT_VALUES;
  const refusals = readRefusals(
    refusalsMap([
      [1, HOOK_UPLINK_INGRESS, VERDICT_REFUSE, [1, 2, 0]],
      [1, HOOK_CONNECT, VERDICT_REFUSE, [5, 0, 0]],
      [2, HOOK_UPLINK_INGRESS, DROP_NO_LOCAL_BACKEND, [0, 0, 7]],
      [9, HOOK_UPLINK_INGRESS, VERDICT_REFUSE, [100, 0, 0]],
    ]),
  );

  it("are of a Service port by verdict, over hooks and CPUs, and nothing before the first", () => {
    const ports = [port(), port({ serviceId: 2, service: "shop/db" }), port({ serviceId: 3, service: "shop/idle" })];
    expect([...serviceCounters(ports, none, refusals)].map(({ name, refusals: of }) => [name, of])).toEqual([
      ["web", { refuse: 8 }],
      ["db", { drop_no_local_backend: 7 }],
      ["idle", {}],
    ]);
  });

  it("are told by Service, hook and verdict, and what is left of a hook's count is of no Service", () => {
    const verdicts = [
      { hook: "connect", verdict: "refuse", packets: 6 },
      { hook: "uplink_ingress", verdict: "refuse", packets: 3 },
      { hook: "uplink_ingress", verdict: "drop_no_local_backend", packets: 7 },
      { hook: "uplink_ingress", verdict: "drop_no_route", packets: 0 },
      { hook: "uplink_ingress", verdict: "pass", packets: 99 },
    ];
    const ports = new Map([
      [1, port()],
      [2, port({ serviceId: 2, service: "shop/db", portName: "", port: 53, protocol: "UDP" })],
    ]);
    const views = dropViews(verdicts, refusals, (id) => ports.get(id));
    expect(
      views.map((one) => [one.service, one.port, one.protocol, one.hook, one.verdict, one.packets].join(" ")),
    ).toEqual([
      "   connect refuse 1",
      "default/web http TCP connect refuse 5",
      "default/web http TCP uplink_ingress refuse 3",
      "shop/db 53 UDP uplink_ingress drop_no_local_backend 7",
    ]);
    expect(views.every(({ meaning }) => meaning.length > 10)).toBe(true);
  });
});
