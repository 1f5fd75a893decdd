// The page that `make bench` prints. Goals stand beside what they are about, with "ok" or "over". Decides nothing else.

import type { AgentResult } from "./agent.ts";
import { CLIENT_WAYS } from "./clients.ts";
import type { AdoptResult, ChangeResult, FillResult } from "./controller.ts";
import type { Machine } from "./machine.ts";
import type { MapMemory } from "./memory.ts";
import type { PacketResult } from "./packets.ts";
import type { LoadResult } from "./start-up.ts";

export interface Results {
  readonly machine: Machine;
  readonly quick: boolean;
  readonly packets: readonly PacketResult[];
  readonly fills: readonly FillResult[];
  readonly adoptions: readonly AdoptResult[];
  readonly changes: readonly ChangeResult[];
  readonly graceMs: number;
  readonly loads: readonly LoadResult[];
  readonly maps: readonly MapMemory[];
  readonly agents: readonly AgentResult[];
}

export interface Goal {
  readonly text: string;
  readonly value: number;
  readonly limit: number;
  readonly unit: string;
}

export const isMet = ({ value, limit }: Goal): boolean => value <= limit;

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

export function machineLines(machine: Machine): string[] {
  const { kernel, architecture, cpu, cores, virtual, memoryBytes, node, jit, load } = machine;
  return [
    `Linux ${kernel} ${architecture}, ${cpu}${virtual ? " (virtual)" : ""}, ${cores} cores, ${mib(memoryBytes)}, Node ${node}`,
    `BPF JIT ${jit ? "on" : "OFF: these numbers mean nothing"}, load ${load.toFixed(1)} when it began`,
  ];
}

/** Columns as wide as their longest cell; all but the first are numbers. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
}

const KINDS = ["TCP IPv4", "UDP IPv4", "TCP IPv6", "UDP IPv6"] as const;

/** One line for each scenario and number of Services and flows, a column for each protocol and family. */
export function packetLines(results: readonly PacketResult[]): string[] {
  const rows: string[][] = [["ns per packet over the empty program", "Services", "flows", ...KINDS]];
  const groups = Map.groupBy(results, (one) => `${one.kind} ${one.context} ${one.scenario}`);
  for (const group of groups.values()) {
    const lines = Map.groupBy(group, (one) => `${one.services} ${one.kind === "established" && one.flows > 2}`);
    for (const line of lines.values()) {
      const first = line[0]!;
      const kind = { "not-ours": "not ours", established: "established", new: "new flow" }[first.kind];
      const cells = KINDS.map(
        (name) => line.find((one) => `${one.protocol} ${one.family}` === name)?.ns.toFixed(0) ?? "",
      );
      const flows = first.flows === 0 ? "" : String(first.flows);
      rows.push([`${kind}, ${first.context} ${first.scenario}`, String(first.services), flows, ...cells]);
    }
  }
  return table(rows);
}

export function goalLines(goals: readonly Goal[]): string[] {
  return table([
    ["goal", "is", "at most", ""],
    ...goals.map((one) => [
      one.text,
      `${one.value.toFixed(one.limit < 10 ? 2 : 0)} ${one.unit}`,
      `${one.limit} ${one.unit}`,
      isMet(one) ? "ok" : "over",
    ]),
  ]);
}

const ms = (value: number): string => value.toFixed(value < 10 ? 2 : 0);

export function controllerLines({ fills, adoptions, changes, graceMs }: Results): string[] {
  return [
    ...table([
      ["fill: Services", "backends", "objects in, ms", "plan, ms", "apply, ms", "CPU, ms", "rows/s"],
      ...fills.map((one) => [
        String(one.services),
        String(one.backends),
        ms(one.updateMs),
        ms(one.planMs),
        ms(one.applyMs),
        ms(one.cpuMs),
        one.rowsPerSecond.toFixed(0),
      ]),
    ]),
    "",
    ...table([
      ["restart: Services", "read maps, ms", "adopt, ms", "compare, ms"],
      ...adoptions.map((one) => [String(one.services), ms(one.readMs), ms(one.adoptMs), ms(one.planMs)]),
    ]),
    "",
    ...table([
      ["change of one Service, of", "in force after ms", "slowest"],
      ...changes.map((one) => [String(one.services), ms(one.ms), ms(one.worstMs)]),
    ]),
    `grace period before what was retired is used again: ${ms(graceMs)} ms`,
  ];
}

export function memoryLines({ maps, agents, loads }: Results): string[] {
  const sum = maps.reduce((total, one) => total + one.bytes, 0);
  return [
    ...table([
      ["load: object", "programs", "open, ms", "load, ms"],
      ...loads.map((one) => [one.object, String(one.programs), ms(one.openMs), ms(one.loadMs)]),
    ]),
    "",
    ...table([
      ["map", "entries", "MiB"],
      ...maps.map((one) => [one.map, String(one.entries), (one.bytes / 2 ** 20).toFixed(1)]),
      ["all maps, empty or full", "", (sum / 2 ** 20).toFixed(1)],
    ]),
    "",
    ...table([
      ["agent idle: Services", "in force after ms", "resident", "of that mapped maps", "its own"],
      ...agents.map((one) => [
        String(one.services),
        ms(one.startMs),
        mib(one.residentBytes),
        mib(one.mappedArrayBytes),
        mib(one.ownBytes),
      ]),
    ]),
  ];
}

/** The goals of the project, and how far this machine is from them. */
export function goalsOf({ packets, fills, changes, agents }: Results): Goal[] {
  const goals: Goal[] = [];
  const add = (text: string, value: number | undefined, limit: number, unit: string): void => {
    if (value !== undefined) goals.push({ text, value, limit, unit });
  };
  const many = Math.max(...packets.map(({ services }) => services));
  const few = Math.min(...packets.map(({ services }) => services));
  const worst = (values: readonly number[]): number | undefined =>
    values.length === 0 ? undefined : Math.max(...values);
  for (const [context, limit] of [
    ["tc", 95],
    ["xdp", 60],
  ] as const) {
    const known = packets.filter((one) => one.kind === "established" && one.context === context);
    const atFew = known.filter(({ services, flows }) => services === few && flows === 2);
    add(`established in ${context}, the slowest hook and kind`, worst(atFew.map(({ least }) => least)), limit, "ns");
    if (many === few) continue;
    /** How much more each hook and kind takes there than the same one with few Services, in percent. */
    const growth = (isCounted: (flows: number) => boolean): number | undefined =>
      worst(
        known
          .filter(({ services, flows }) => services === many && isCounted(flows))
          .flatMap((one) => {
            const same = atFew.find(
              ({ scenario, protocol, family }) =>
                scenario === one.scenario && protocol === one.protocol && family === one.family,
            );
            return same === undefined ? [] : [(one.ns / same.ns - 1) * 100];
          }),
      );
    add(
      `with ${many} Services, two flows: more by`,
      growth((flows) => flows === 2),
      15,
      "%",
    );
    add(
      `with ${many} Services, round all their flows: more by`,
      growth((flows) => flows > 2),
      15,
      "%",
    );
  }
  const [plain, affinity, , ranges, maglev] = CLIENT_WAYS.map(({ scenario }) =>
    packets.filter((one) => one.kind === "new" && one.scenario === scenario),
  );
  const more = (list: readonly PacketResult[] = []): number | undefined =>
    worst(list.map((one, i) => one.ns - plain![i]!.ns));
  add("a first packet of a known client with affinity: more by", more(affinity), 60, "ns");
  add("a first packet with 16 source ranges: more by", more(ranges), 100, "ns");
  add("a first packet by Maglev: more by", more(maglev), 60, "ns");
  const others = packets.filter(({ kind }) => kind === "not-ours");
  add("not ours, the slowest hook and kind", worst(others.map(({ least }) => least)), 25, "ns");
  const fill = fills.find(({ services }) => services === Math.max(...fills.map((one) => one.services)));
  if (fill !== undefined) {
    add(`${fill.backends} backends filled, plan and apply`, (fill.planMs + fill.applyMs) / 1000, 0.5, "s");
  }
  const change = changes.find(({ services }) => services === Math.max(...changes.map((one) => one.services)));
  if (change !== undefined) add(`one Service changed, of ${change.services}`, change.ms, 5, "ms");
  const idle = agents.find(({ services }) => services === 0);
  add("agent resident when idle", idle === undefined ? undefined : idle.ownBytes / 2 ** 20, 110, "MiB");
  return goals;
}
