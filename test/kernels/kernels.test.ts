// What of make kernels needs no kernel: the count of stack, the verifier's words, the archive, names of packages, the page.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { chainText, deepestChain, frameBytes } from "./chains.ts";
import { ciResults, isExcused } from "./ci-results.ts";
import { cpio } from "./cpio.ts";
import { KERNELS } from "./kernels.ts";
import { joined } from "./measured.ts";
import { objectDigest, sectionsOf } from "./object-digest.ts";
import { kernelsPage } from "./page.ts";
import { OBJECTS_DIRECTORY } from "./paths.ts";
import { parseStatistics } from "./verifier-statistics.ts";

describe("stack as Linux 6.1 counts it", () => {
  it.each([
    [0, 32],
    [1, 32],
    [32, 32],
    [33, 64],
    [176, 192],
  ])("a frame of %d bytes takes %d", (stack, bytes) => {
    expect(frameBytes(stack)).toBe(bytes);
  });

  it("the deepest chain is the sum that is largest, not the longest one", () => {
    const functions = [
      { name: "program", stack: 176, calls: [1, 3] },
      { name: "long", stack: 8, calls: [2] },
      { name: "longer", stack: 0, calls: [4] },
      { name: "deep", stack: 200, calls: [4] },
      { name: "shared", stack: 33, calls: [] },
    ];
    const chain = deepestChain(functions);
    expect(chain).toEqual({ bytes: 192 + 224 + 64, functions: [0, 3, 4] });
    expect(chainText(functions, chain)).toBe("program 192 > deep 224 > shared 64");
  });

  it("a circle of calls is an error", () => {
    expect(() => deepestChain([{ name: "f", stack: 0, calls: [0] }])).toThrow("f calls itself");
  });
});

describe("the digest of an object", () => {
  const object = readFileSync(join(OBJECTS_DIRECTORY, "xdp.bpf.o"));
  /** The digest after one byte in the middle of a section changed. */
  const changedIn = (name: string): string => {
    const copy = Uint8Array.from(object);
    const { bytes } = sectionsOf(copy).find((section) => section.name === name)!;
    bytes[bytes.length >> 1]! ^= 1;
    return objectDigest(copy);
  };

  it.each(["xdp", ".relxdp", ".rodata", ".maps"])("is another when %s changes", (name) => {
    expect(changedIn(name)).not.toBe(objectDigest(object));
  });

  it.each([".BTF", ".BTF.ext"])("is the same when %s changes, as with every comment", (name) => {
    expect(changedIn(name)).toBe(objectDigest(object));
  });

  it("is of objects alone", () => {
    expect(() => objectDigest(object.subarray(1))).toThrow("no little-endian ELF");
    expect(() => objectDigest(Buffer.from("xdp"))).toThrow("no little-endian ELF");
  });
});

describe("the verifier's statistics", () => {
  it.each([
    [
      "5.10",
      "verification time 1545794 usec\nstack depth 176+0+96\nprocessed 117520 insns (limit 1000000) max_states_per_insn 4 total_states 1 peak_states 1 mark_read 1\n",
    ],
    [
      "a kernel that says more",
      "stack depth 176+0+96 max 272\nprocessed 117520 insns (limit 1000000) max_states_per_insn 4\nverification time 1545794 usec\n",
    ],
  ])("are read from the log of %s", (_, log) => {
    expect(parseStatistics(log)).toEqual({ instructions: 117520, stackDepths: [176, 0, 96], seconds: 1.545794 });
  });

  it("are undefined when there are none", () => {
    expect(parseStatistics("")).toBeUndefined();
    expect(parseStatistics("R1 !read_ok\nprocessed 3 insns (limit 1000000)\n")).toBeUndefined();
  });
});

it("a cpio archive has a header, name and content of whole words for each entry", () => {
  const archive = cpio([
    { path: "bin" },
    { path: "bin/sh", link: "busybox" },
    { path: "init", content: Buffer.from("abcde") },
  ]);
  const text = archive.toString("latin1");
  expect(archive.length % 4).toBe(0);
  expect(text.match(/070701/g)).toHaveLength(4);
  expect(text.slice(0, 6 + 8 + 8)).toBe("07070100000001000041ed");
  expect(text.indexOf("abcde") % 4).toBe(0);
});

it("packages of kernels are told from those beside them", () => {
  const names = [
    "linux-image-5.10.0-32-amd64-unsigned",
    "linux-image-5.10.0-32-cloud-amd64-unsigned",
    "linux-image-6.1.0-56-amd64",
    "linux-image-6.1.0-56-rt-amd64",
    "linux-image-6.12.117+deb12-amd64",
    "linux-image-7.2.13+deb14-amd64",
    "linux-image-7.2.13+deb14-cloud-amd64",
  ];
  expect(KERNELS.map(({ image }) => names.filter((name) => image.test(name)))).toEqual([
    ["linux-image-5.10.0-32-amd64-unsigned"],
    ["linux-image-6.1.0-56-amd64"],
    ["linux-image-6.12.117+deb12-amd64"],
    ["linux-image-7.2.13+deb14-amd64"],
  ]);
});

it("the page says what is lacking, what is then, and what failed", () => {
  const page = kernelsPage([
    {
      name: "5.10",
      release: "5.10.0-32-amd64",
      version: "5.10.223-1",
      objects: "01234567",
      lacks: ["tcx"],
      programs: [
        { program: "tc_a", seconds: 1.5, instructions: 117520, stack: 480 },
        { program: "tc_b", seconds: 0, instructions: 0 },
      ],
      tests: { files: 1, ofFiles: 50, passed: 3, failed: ["a test"], leftOut: { "this kernel lacks tcx": 2 } },
      smoke: { held: 4, failed: [] },
    },
  ]);
  expect(page).toContain("| `tcx` | 6.6 | 5.10 | tc programs are filters of a clsact qdisc |");
  expect(page).toContain("| `tc_a` | 117,520 · 480 · 1.50 s |\n| `tc_b` | **refused** |");
  expect(page).toContain(
    "| 5.10 | 5.10.223-1, bullseye (`5.10.0-32-amd64`) | **1 refused** | 3 passed, **1 failed**, 2 left out (1 of 50 files) | all 4 | not asked | `01234567` |",
  );
  expect(page).toContain("## Failed\n\n- a test (5.10)");
  expect(page).toContain("- 5.10: 2 tests: this kernel lacks tcx\n");
});

it("a quick run leaves what a full one measured of the same objects, and takes the place of what was measured of others", () => {
  const kernel = (objects: string, files: number) => ({
    name: "6.1",
    release: "6.1.0-57-amd64",
    version: "6.1.1-1",
    objects,
    lacks: [],
    programs: [],
    tests: { files, ofFiles: 50, passed: files, failed: [], leftOut: {} },
    smoke: { held: 4, failed: [] },
  });
  const files = (known: number, objects: string, now: number) =>
    joined([kernel("a", known)], [kernel(objects, now)], ["6.1"]).map(({ tests }) => tests.files);
  expect(files(50, "a", 1)).toEqual([50]);
  expect(files(50, "b", 1)).toEqual([1]);
  expect(files(1, "a", 50)).toEqual([50]);
  expect(joined([], [kernel("a", 1)], ["6.1"])).toHaveLength(1);
});

it("CI counts programs, tests and kernels, and can do without 5.10 alone", () => {
  const none = { bytes: 0, functions: [] };
  const good = {
    object: "tc",
    program: "a",
    seconds: 1,
    instructions: 10,
    functions: [],
    chain: { bytes: 448, functions: [] },
  };
  const deep = { ...good, program: "b", chain: { bytes: 480, functions: [] } };
  const refused = { ...good, program: "c", refusal: "no", chain: none };
  const results = ciResults(
    [good, deep, refused],
    [],
    [
      { name: "5.10", reason: "gone", available: false },
      { name: "6.1", reason: "gone", available: false },
    ],
  );
  expect(results).toEqual({
    numPassedTests: 1,
    numFailedTests: 3,
    testResults: [
      {
        name: "make kernels-ci",
        status: "failed",
        assertionResults: [
          { fullName: "running: b takes 480 bytes of stack", status: "failed" },
          { fullName: "running: c is refused: no", status: "failed" },
          { fullName: "6.1: gone", status: "failed" },
        ],
      },
    ],
  });
  expect(isExcused({ name: "5.10", reason: "it does not boot", available: true })).toBe(false);
});
