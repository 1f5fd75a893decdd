// What the verifier tells of a program that it accepts, the functions that the kernel's program consists of, and how often and
// how long it ran.
import { afterAll, beforeAll, expect, it } from "vitest";
import { type BpfObject, openObject } from "../../../src/libbpf/mod.ts";
import { functionsOf } from "../../kernels/program-functions.ts";
import { loadWithStatistics, type VerifierStatistics } from "../../kernels/verifier-statistics.ts";
import { describeKernel } from "../require-kernel.ts";
import { compile, temporaryDirectory } from "./fixture.ts";
import { countRuns, openProgram, runStatistics } from "./run-statistics.ts";

describeKernel("statistics", () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let path: string;
  beforeAll(() => {
    directory = temporaryDirectory();
    path = compile("calls.bpf.c", directory.path);
  });
  afterAll(() => directory[Symbol.dispose]());

  /** Stack and callees of each function that is called, by name: below 6.8 global functions stay though nobody calls them. */
  function shapeOf(
    object: BpfObject,
    statistics: VerifierStatistics | undefined,
  ): Record<string, [stack: number, calls: string[]]> {
    const functions = functionsOf(object.program("entry"));
    const names = functions.map(({ typeId }) => object.btf().shape(typeId).name);
    const { stackDepths = [] } = statistics ?? {};
    expect(stackDepths).toHaveLength(functions.length);
    const called = new Set([0]);
    for (const at of called) for (const one of functions[at]!.calls) called.add(one);
    return Object.fromEntries(
      [...called].map((at) => [names[at]!, [stackDepths[at]!, functions[at]!.calls.map((one) => names[one]!)]]),
    );
  }

  it("each function has its stack and those it calls", () => {
    using object = openObject(path);
    const statistics = loadWithStatistics(object).get("entry");
    expect(shapeOf(object, statistics)).toEqual({
      entry: [0, ["middle", "aside"]],
      middle: [96, ["leaf"]],
      leaf: [40, []],
      aside: [112, []],
    });
    expect(statistics?.instructions).toBeGreaterThan(30);
  });

  it("what is dead by the read-only data is no part of it", () => {
    using object = openObject(path);
    object.setReadOnly({ deeper: 0 });
    const statistics = loadWithStatistics(object).get("entry");
    expect(shapeOf(object, statistics)).toEqual({ entry: [0, ["aside"]], aside: [112, []] });
  });

  it("the functions are told when nobody asked for statistics", () => {
    using object = openObject(path);
    object.load();
    expect(functionsOf(object.program("entry"))).toHaveLength(4);
  });

  it("runs are counted while somebody asks for it", () => {
    using object = openObject(path);
    object.load();
    const run = () => object.program("entry").testRun({ data: new Uint8Array(64), repeat: 100 });
    using program = openProgram(object.program("entry").id);
    {
      using _ = countRuns();
      run();
    }
    const counted = runStatistics(program);
    expect(counted.runs).toBe(100);
    expect(counted.ns).toBeGreaterThan(0);
  });
});
