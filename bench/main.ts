// `make bench`: measures the packet programs, the controller and the memory of both on this machine, and prints one page.
// --json FILE writes the same as data; --quick takes fewer rounds. Needs root. Leaves nothing behind.
import fs from "node:fs";
import { parseArgs } from "node:util";
import { type AgentResult, benchAgent } from "./agent.ts";
import { benchClients } from "./clients.ts";
import {
  type AdoptResult,
  benchAdopt,
  benchChange,
  benchFill,
  benchGrace,
  type ChangeResult,
  type FillResult,
} from "./controller.ts";
import { readMachine } from "./machine.ts";
import { FULL, QUICK } from "./measure.ts";
import { type MapMemory, mapMemory } from "./memory.ts";
import { createBenchNode } from "./node.ts";
import { benchMaglev, benchPackets, type PacketResult } from "./packets.ts";
import { controllerLines, goalLines, goalsOf, machineLines, memoryLines, packetLines, type Results } from "./report.ts";
import { benchLoad, type LoadResult } from "./start-up.ts";

const FEW = 10;
const MANY = 10_000;

const { values: flags } = parseArgs({
  options: { json: { type: "string" }, quick: { type: "boolean", default: false } },
});
if (process.getuid?.() !== 0) {
  process.stderr.write("could not measure: it needs root, for namespaces and BPF programs\n");
  process.exit(3);
}
const effort = flags.quick ? QUICK : FULL;
const say = (lines: readonly string[]): void => void process.stdout.write(`${lines.join("\n")}\n\n`);
const progress = (text: string): void => void process.stderr.write(`  BENCH  ${text}\n`);

const machine = readMachine();
say(machineLines(machine));

const packets: PacketResult[] = [];
const fills: FillResult[] = [];
const adoptions: AdoptResult[] = [];
const changes: ChangeResult[] = [];
let loads: readonly LoadResult[] = [];
let maps: readonly MapMemory[] = [];
// The first fill of a process runs code that no compiler has seen yet, as an agent's does.
for (const services of [MANY, FEW]) {
  progress(`${services} Services: fill, restart, change, packets`);
  using node = createBenchNode();
  const model = node.model();
  fills.unshift(await benchFill(node, model, services));
  changes.unshift(await benchChange(node, model, services));
  adoptions.unshift(benchAdopt(node, services));
  maps = mapMemory(node.dataplane);
  loads = benchLoad(node);
  benchPackets(node, services, effort, (result) => packets.push(result));
  if (services === FEW) await benchMaglev(node, services, effort, (result) => packets.push(result));
}
{
  progress("first packets, by who the client is");
  using node = createBenchNode();
  await benchClients(node, effort, (result) => packets.push(result));
}
packets.sort((a, b) => a.services - b.services);
const graceMs = await benchGrace();
const agents: AgentResult[] = [];
for (const services of [0, MANY]) {
  progress(`an agent with ${services} Services`);
  agents.push(await benchAgent(services));
}

const results: Results = {
  machine,
  quick: flags.quick,
  packets,
  fills,
  adoptions,
  changes,
  graceMs,
  loads,
  maps,
  agents,
};
const goals = goalsOf(results);
say(packetLines(packets));
say(controllerLines(results));
say(memoryLines(results));
say(goalLines(goals));
if (flags.json !== undefined) {
  fs.writeFileSync(flags.json, `${JSON.stringify({ ...results, goals }, undefined, 2)}\n`);
}
