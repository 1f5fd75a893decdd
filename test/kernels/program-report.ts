// Loads the objects into the running kernel as the agent does and says of each program what the verifier made of it. Nothing
// is attached, and nothing stays.
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { configure } from "../../src/datapath/load.ts";
import { VerifierError } from "../../src/lib/errors.ts";
import { type BpfObject, type FeatureName, hasFeature, openObject } from "../../src/libbpf/mod.ts";
import { type Chain, deepestChain, type FunctionDepth } from "./chains.ts";
import { OBJECTS_DIRECTORY } from "./paths.ts";
import { functionsOf } from "./program-functions.ts";
import { loadWithStatistics, type VerifierStatistics } from "./verifier-statistics.ts";

export interface ProgramReport {
  readonly object: string;
  readonly program: string;
  /** What the verifier said last; undefined when it accepted the program. */
  readonly refusal?: string;
  /** Spent in the verifier. */
  readonly seconds: number;
  /** Instructions that the verifier walked through. */
  readonly instructions: number;
  /** The first is the program itself. */
  readonly functions: readonly FunctionDepth[];
  readonly chain: Chain;
}

type Has = (name: FeatureName) => boolean;

/** Every object that was built, by name; what asks conntrack where the kernel lets it. */
export function objectNames(has: Has = hasFeature): string[] {
  return readdirSync(OBJECTS_DIRECTORY)
    .filter((file) => file.endsWith(".bpf.o"))
    .map((file) => basename(file, ".bpf.o"))
    .filter((name) => name !== "tc_conntrack" || has("ct_lookup"))
    .sort();
}

/** Reports of every program of every object. `has`: the features that the programs are told of. */
export function reportPrograms(has: Has = hasFeature): ProgramReport[] {
  return objectNames(has).flatMap((name) => reportObject(name, has));
}

function open(name: string, has: Has): BpfObject {
  const object = openObject(join(OBJECTS_DIRECTORY, `${name}.bpf.o`));
  configure(object, has);
  return object;
}

/** Those that ask conntrack have the names of those that do not. */
const labelOf = (object: string, program: string): string =>
  object === "tc_conntrack" ? `${program}, conntrack` : program;

/** All programs at once, which is quick; one by one when one of them is refused. */
function reportObject(name: string, has: Has): ProgramReport[] {
  {
    using object = open(name, has);
    const programs = object.programs();
    try {
      const statistics = loadWithStatistics(object);
      return programs.map((program) => accepted(object, name, program, statistics.get(program)));
    } catch (error) {
      if (!(error instanceof VerifierError)) throw error;
    }
  }
  using list = open(name, has);
  return list.programs().map((program) => reportAlone(name, program, has));
}

function reportAlone(name: string, program: string, has: Has): ProgramReport {
  using object = open(name, has);
  for (const other of object.programs()) object.setAutoload(other, other === program);
  const began = performance.now();
  try {
    return accepted(object, name, program, loadWithStatistics(object).get(program));
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    const seconds = (performance.now() - began) / 1000;
    const nothing = { instructions: 0, functions: [], chain: { bytes: 0, functions: [] } };
    return { object: name, program: labelOf(name, program), refusal: lastWords(error.log), seconds, ...nothing };
  }
}

/** The verifier's last words before its statistics. */
function lastWords(log: string): string {
  const lines = log
    .split("\n")
    .filter((line) => line !== "" && !/^(processed|verification time|stack depth|max_states)/.test(line));
  return lines.slice(-2).join("; ");
}

function accepted(
  object: BpfObject,
  name: string,
  program: string,
  statistics: VerifierStatistics | undefined,
): ProgramReport {
  const found = functionsOf(object.program(program));
  if (statistics === undefined || statistics.stackDepths.length !== found.length) {
    const depths = statistics?.stackDepths.join("+") ?? "nothing";
    throw new Error(`${name} ${program}: the verifier speaks of ${depths}, the program has ${found.length} functions`);
  }
  const functions = found.map(({ typeId, calls }, at) => ({
    name: at === 0 ? program : object.btf().shape(typeId).name,
    stack: statistics.stackDepths[at]!,
    calls,
  }));
  const { seconds, instructions } = statistics;
  return {
    object: name,
    program: labelOf(name, program),
    seconds,
    instructions,
    functions,
    chain: deepestChain(functions),
  };
}
