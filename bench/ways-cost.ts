// What our programs cost by the kernel's own count: those that a cluster's agents have attached, and an empty program at the
// same hooks of a cluster that has none of ours. Needs tcx (Linux 6.6), as agents pin no other links of tc.
import fs from "node:fs";
import path from "node:path";
import { objectPath } from "../src/datapath/objects.ts";
import { attachTcx, type BpfLink, type BpfProgram, openObject, openPinnedLink } from "../src/libbpf/mod.ts";
import type { Cluster } from "../test/cluster/cluster.ts";
import { memberNamespacePath } from "../test/cluster/paths.ts";
import { insideNamespace } from "../test/kernel/datapath/namespace.ts";
import { openProgram, type RunStatistics, runStatistics } from "../test/kernel/libbpf/run-statistics.ts";

const LINKS = "sys/fs/bpf/millrace/links";
const EMPTY = "tc_empty";

/** Runs and time so far, by the program's name. */
export type Counts = ReadonlyMap<string, RunStatistics>;

/** Programs whose runs can be read. */
export class Programs implements Disposable {
  readonly #programs: readonly BpfProgram[];

  constructor(programs: readonly BpfProgram[]) {
    this.#programs = programs;
  }

  /** Nodes' programs of one name are summed. */
  read(): Counts {
    const sums = new Map<string, RunStatistics>();
    for (const program of this.#programs) {
      const { runs, ns } = runStatistics(program);
      const sum = sums.get(program.name) ?? { runs: 0, ns: 0 };
      sums.set(program.name, { runs: sum.runs + runs, ns: sum.ns + ns });
    }
    return sums;
  }

  [Symbol.dispose](): void {
    for (const program of this.#programs) program.close();
  }
}

/** The programs that the agents of a cluster have attached now. */
export function agentPrograms(cluster: Cluster): Programs {
  const programs: BpfProgram[] = [];
  for (const { name } of cluster.nodes) {
    // The node's bpffs, seen by whoever is in its mounts.
    const directory = path.join(`/proc/${cluster.agent(name).pid}/root`, LINKS);
    const ids = new Set<number>();
    for (const pin of fs.readdirSync(directory)) {
      using link = openPinnedLink(path.join(directory, pin));
      ids.add(link.info().programId);
    }
    for (const id of ids) programs.push(openProgram(id));
  }
  if (!programs.some(({ name }) => name.startsWith("tc_pod"))) {
    throw new Error("the agents of the cluster have attached nothing to pods that a pinned link tells of");
  }
  return new Programs(programs);
}

interface Hooks {
  readonly namespace: string;
  readonly ifindexes: readonly number[];
}

/** An empty program, to be attached to the devices of every node where agents attach theirs: the uplink's and the pods'. */
export class EmptyProgram implements Disposable {
  readonly #program: BpfProgram;
  readonly #nodes: readonly Hooks[];
  #links: BpfLink[] = [];

  private constructor(program: BpfProgram, nodes: readonly Hooks[]) {
    this.#program = program;
    this.#nodes = nodes;
  }

  static async load(cluster: Cluster): Promise<EmptyProgram> {
    const nodes: Hooks[] = [];
    for (const node of cluster.nodes) {
      const { stdout } = await node.exec(["ip", "-j", "link", "show", "type", "veth"]);
      const links = JSON.parse(stdout) as readonly { ifindex: number }[];
      nodes.push({
        namespace: memberNamespacePath(cluster.paths, node.name),
        ifindexes: links.map(({ ifindex }) => ifindex),
      });
    }
    using object = openObject(objectPath("tc"));
    for (const map of object.maps()) object.setAutocreate(map, false);
    for (const program of object.programs()) object.setAutoload(program, program === EMPTY);
    object.load();
    return new EmptyProgram(object.program(EMPTY).duplicate(), nodes);
  }

  get programs(): Programs {
    return new Programs([this.#program]);
  }

  attach(): void {
    for (const { namespace, ifindexes } of this.#nodes) {
      insideNamespace(namespace, () => {
        for (const ifindex of ifindexes) {
          for (const direction of ["ingress", "egress"] as const) {
            this.#links.push(attachTcx(this.#program, ifindex, direction));
          }
        }
      });
    }
  }

  detach(): void {
    for (const link of this.#links) link.close();
    this.#links = [];
  }

  [Symbol.dispose](): void {
    this.detach();
    this.#program.close();
  }
}

export interface ProgramCost {
  readonly program: string;
  readonly runsPerRequest: number;
  readonly nsPerRun: number;
}

export interface Cost {
  /** Of all programs, less what as many runs of the empty program take. */
  readonly nsPerRequest: number;
  readonly runsPerRequest: number;
  readonly programs: readonly ProgramCost[];
}

/** What was counted between two readings, for so many requests. `emptyNs`: one run of the empty program. */
export function costOf(before: Counts, after: Counts, requests: number, emptyNs: number): Cost {
  const programs: ProgramCost[] = [];
  let [allRuns, allNs] = [0, 0];
  for (const [program, { runs, ns }] of after) {
    const was = before.get(program) ?? { runs: 0, ns: 0 };
    const [newRuns, newNs] = [runs - was.runs, ns - was.ns];
    if (newRuns <= 0) continue;
    programs.push({ program, runsPerRequest: newRuns / requests, nsPerRun: newNs / newRuns });
    allRuns += newRuns;
    allNs += newNs;
  }
  return { nsPerRequest: (allNs - allRuns * emptyNs) / requests, runsPerRequest: allRuns / requests, programs };
}
