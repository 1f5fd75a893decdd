// What the controller takes: filling the maps, adopting them after a restart, applying one Service's change. Model and
// dataplane as the agent uses them, the grace period apart, as a change is in force before it.
import { membarrierGlobalAsync } from "../src/libbpf/mod.ts";
import type { Model } from "../src/model/model-interface.ts";
import type { Operation } from "../src/model/operations.ts";
import { clusterEvents, ENDPOINTS, sliceEvent } from "./cluster.ts";
import { median } from "./measure.ts";
import type { BenchNode } from "./node.ts";

export interface FillResult {
  readonly services: number;
  readonly backends: number;
  readonly operations: number;
  /** Objects entered into the model. */
  readonly updateMs: number;
  /** The model's plan. */
  readonly planMs: number;
  /** Until the plan's operations are in force. */
  readonly applyMs: number;
  /** CPU time of plan and apply together: what the same takes on a machine with nothing else to do. */
  readonly cpuMs: number;
  /** Rows of all maps a second, plan and apply together. */
  readonly rowsPerSecond: number;
}

export interface AdoptResult {
  readonly services: number;
  /** Reading the maps back. */
  readonly readMs: number;
  readonly adoptMs: number;
  /** Comparing what the objects ask for with what is there. */
  readonly planMs: number;
  /** Operations that were left to do: none, when nothing changed. */
  readonly operations: number;
}

export interface ChangeResult {
  readonly services: number;
  /** Median, and the slowest of twenty, from the event to in force. */
  readonly ms: number;
  readonly worstMs: number;
}

/** How many rows of maps a plan writes. */
function rowsOf(operations: readonly Operation[]): number {
  let rows = 0;
  for (const operation of operations) {
    if (operation.op === "put-slots") rows += operation.backends.length;
    else rows += operation.op === "put-backends" ? operation.indexes.length : 1;
  }
  return rows;
}

/** Resolves to when the operations were in force, not to when the grace after them was over. */
async function applied(node: BenchNode, operations: readonly Operation[]): Promise<number> {
  let inForce = 0;
  await node.dataplane.apply(operations, () => {
    inForce = performance.now();
  });
  return inForce;
}

/** Fills the empty maps of the node. `model` holds the cluster afterwards. */
export async function benchFill(node: BenchNode, model: Model, services: number): Promise<FillResult> {
  const events = clusterEvents(services);
  const start = performance.now();
  model.update(events);
  const updated = performance.now();
  const cpu = process.cpuUsage();
  const operations = model.plan();
  const planned = performance.now();
  const inForce = await applied(node, operations);
  const { user, system } = process.cpuUsage(cpu);
  const { backends } = model.usage();
  if (backends !== services * ENDPOINTS || model.notices().length > 0) {
    throw new Error(`${services} Services filled ${backends} backends, with ${model.notices().length} notices`);
  }
  return {
    services,
    backends,
    operations: operations.length,
    updateMs: updated - start,
    planMs: planned - updated,
    applyMs: inForce - planned,
    cpuMs: (user + system) / 1000,
    rowsPerSecond: (rowsOf(operations) / (inForce - updated)) * 1000,
  };
}

/** A new model takes over what the maps hold, and is told the same objects. */
export function benchAdopt(node: BenchNode, services: number): AdoptResult {
  const events = clusterEvents(services);
  const model = node.emptyModel();
  const start = performance.now();
  const state = node.dataplane.readState();
  const read = performance.now();
  model.adopt(state);
  const adopted = performance.now();
  model.update(events);
  const before = performance.now();
  const operations = model.plan();
  const planMs = performance.now() - before;
  const changes = operations.filter(({ op }) => op !== "grace" && op !== "set-service-ranges").length;
  if (changes > 0) throw new Error(`an adopted model has ${changes} operations left to do`);
  return { services, readMs: read - start, adoptMs: adopted - read, planMs, operations: changes };
}

/** One Service loses an endpoint and gets it back, again and again. */
export async function benchChange(node: BenchNode, model: Model, services: number): Promise<ChangeResult> {
  const times: number[] = [];
  for (let i = 0; i < 40; i++) {
    const start = performance.now();
    model.update([sliceEvent(services >> 1, i % 2 === 0 ? ENDPOINTS - 1 : ENDPOINTS)]);
    const operations = model.plan();
    if (operations.length === 0) throw new Error("a change of endpoints had no operations");
    const inForce = await applied(node, operations);
    if (i >= 20) times.push(inForce - start);
  }
  return { services, ms: median(times), worstMs: Math.max(...times) };
}

/** Median of a grace period: how long what was retired is kept. */
export async function benchGrace(): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    await membarrierGlobalAsync();
    times.push(performance.now() - start);
  }
  return median(times);
}
