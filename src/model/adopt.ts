// Takes the allocation over from the kernel's maps. Groups get no owner here: a plan matches them by content, frontend ->
// row -> service id, and what nobody claims is removed. Nothing in the kernel is trusted beyond what agrees with itself.
import { familyOf } from "../lib/address.ts";
import { type SlotRange, unionOf } from "./allocation.ts";
import { frontendText } from "./compile.ts";
import type { Backend, KernelState, Row, RowProtocol } from "./operations.ts";
import { addGroup, createTables, type Group, type SlotLayout, setSpread, type Tables } from "./tables.ts";

const UNCLAIMED = { key: "", family: "IPv4", portName: "", port: 0, nodePort: 0 } as const;

/** Tables that hold what the kernel holds. Indexes outside of the capacity are left alone. */
export function adoptTables(state: KernelState, capacity: Tables["capacity"]): Tables {
  const tables = createTables(capacity);
  // Windows may have left slots without anything retired yet: only maps that never held anything need no wait.
  tables.graceFirst =
    state.frontends.length + state.backends.size + state.rowGenerations.size + state.backendGenerations.size > 0;
  raise(tables.rowGenerations, state.rowGenerations);
  raise(tables.backendGenerations, state.backendGenerations);

  const groupOf = (serviceId: number, protocol: RowProtocol): Group =>
    tables.groups.get(serviceId) ?? addGroup(tables, serviceId, { ...UNCLAIMED, protocol });

  const usable = (row: Row | undefined): row is Row =>
    row !== undefined && row.serviceId > 0 && row.serviceId < capacity.services;
  for (const { key, row: index, generation } of state.frontends) {
    if (index < capacity.rows) tables.rowGenerations[index] = Math.max(tables.rowGenerations[index]!, generation);
    const row = state.rows.get(index);
    const text = frontendText(key);
    const agrees = usable(row) && row.generation === generation && frontendText(row.key) === text;
    const group = agrees && index < capacity.rows ? groupOf(row.serviceId, key.protocol) : undefined;
    if (!agrees || group === undefined || group.protocol !== key.protocol) {
      tables.broken.set(text, key);
      continue;
    }
    group.family = familyOf(key.address);
    const installed = { ...row, text, key, index, generation, group, leaving: false };
    group.rows.push(installed);
    tables.frontends.set(text, installed);
  }

  const holder = new Map<number, Group>();
  for (const [index, backend] of state.backends) {
    if (index >= capacity.backends) continue;
    tables.backendGenerations[index] = Math.max(tables.backendGenerations[index]!, backend.generation);
    if (backend.serviceId <= 0 || backend.serviceId >= capacity.services) continue;
    tables.backendAddresses[index] = backend.address;
    tables.backendPorts[index] = backend.port;
    tables.backendLocal[index] = backend.local ? 1 : 0;
    tables.backendWindows[index] = backend.windows;
    const group = groupOf(backend.serviceId, "TCP");
    group.strays.push(index);
    holder.set(index, group);
  }

  for (const [serviceId, ranges] of state.sourceRanges) {
    if (serviceId > 0 && serviceId < capacity.services) groupOf(serviceId, "TCP").sourceRanges = ranges;
    tables.sourceRangesUsed += ranges.length;
  }

  // A slot that two service ids point to belongs to the first; the other gets new ones.
  const reserved: SlotRange[] = [];
  const slotTaken = new Uint8Array(capacity.slots);
  for (const group of tables.groups.values()) {
    const windows = group.rows.flatMap(({ windows: w }) => [w.external, w.internal, w.cluster]);
    for (const range of unionOf(windows)) {
      const end = range.first + range.count;
      if (end > capacity.slots || slotTaken.subarray(range.first, end).includes(1)) continue;
      slotTaken.fill(1, range.first, end);
      group.ranges.push(range);
      reserved.push(range);
    }
    adoptLayouts(group, state, holder);
    const spread = group.layouts.filter(({ backends }) => new Set(backends).size < backends.length);
    setSpread(tables, group, Math.max(0, ...spread.map(({ backends }) => backends.length)));
  }

  tables.slots.reset(reserved);
  tables.services.reset(tables.groups.keys());
  tables.backends.reset(holder.keys());
  tables.rows.reset([...tables.frontends.values()].map((row) => row.index));
  for (const [address, roles] of state.addresses) tables.addresses.set(address, roles);
  return tables;
}

function raise(generations: Uint32Array, last: ReadonlyMap<number, number>): void {
  for (const [index, generation] of last) if (index < generations.length) generations[index] = generation;
}

/** The layouts that the rows' windows show, where every slot holds a live backend of the group. */
function adoptLayouts(group: Group, state: KernelState, holder: ReadonlyMap<number, Group>): void {
  const seen = new Set<string>();
  const laidOut = new Set<number>();
  for (const { windows } of group.rows) {
    const used = [windows.external, windows.internal, windows.cluster].filter((window) => window.count > 0);
    if (used.length === 0) continue;
    const first = Math.min(...used.map((window) => window.first));
    const end = Math.max(...used.map((window) => window.first + window.count));
    if (seen.has(`${first} ${end}`)) continue;
    seen.add(`${first} ${end}`);
    if (!group.ranges.some((range) => range.first <= first && end <= range.first + range.count)) continue;
    const layout = readLayout(first, end, group, state, holder);
    if (layout === undefined) continue;
    group.layouts.push(layout);
    for (const index of layout.backends) laidOut.add(index);
  }
  if (laidOut.size > 0) group.strays = group.strays.filter((index) => !laidOut.has(index));
}

function readLayout(
  first: number,
  end: number,
  group: Group,
  state: KernelState,
  holder: ReadonlyMap<number, Group>,
): SlotLayout | undefined {
  const backends = new Uint32Array(end - first);
  for (let at = first; at < end; at++) {
    const slot = state.slot(at);
    const backend: Backend | undefined = state.backends.get(slot.backend);
    if (holder.get(slot.backend) !== group || backend?.generation !== slot.generation) return undefined;
    backends[at - first] = slot.backend;
  }
  return { first, backends };
}
