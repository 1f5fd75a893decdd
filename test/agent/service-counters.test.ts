import { describe, expect, it } from "vitest";
import { type CountedPort, createTotalsReader, serviceCounters } from "../../src/agent/service-counters.ts";
import { SERVICE_COUNTERS, writeServiceCounters } from "../../src/datapath/layout.gen.ts";

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
    expect([...serviceCounters(ports, none)].map((one) => [one.namespace, one.name, one.port, one.protocol])).toEqual([
      ["default", "web", "http", "TCP"],
      ["kube-system", "dns", "53", "UDP"],
    ]);
  });

  it("are read one by one, and once when a Service comes back under its id meanwhile", () => {
    const groups = new Map([1, 2, 3].map((serviceId) => [serviceId, port({ serviceId })]));
    const read: number[] = [];
    const reading = serviceCounters(groups.values(), (serviceId) => {
      read.push(serviceId);
      return none();
    });
    reading.next();
    expect(read).toEqual([1]);
    groups.delete(1);
    groups.set(1, port({ serviceId: 1 }));
    groups.delete(3);
    expect([...reading]).toHaveLength(1);
    expect(read).toEqual([1, 2]);
  });
});
