// netfilter's limits and timeouts: set once, never lowered, waited for, and told when they cannot be set.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it, test } from "vitest";
import {
  CLUSTER_CONNTRACK,
  conntrackMax,
  createConntrackSysctls,
  NO_CONNTRACK,
} from "../../src/agent/conntrack-sysctls.ts";

const CORES = 8;
let root = "";
beforeEach(() => {
  root = `${mkdtempSync(join(tmpdir(), "conntrack-"))}/`;
});
afterEach(() => rmSync(root, { recursive: true }));

const FILES = {
  max: "proc/sys/net/netfilter/nf_conntrack_max",
  buckets: "sys/module/nf_conntrack/parameters/hashsize",
  established: "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
  closeWait: "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait",
} as const;
type Name = keyof typeof FILES;

function put(values: Partial<Record<Name, number>>): void {
  for (const [name, value] of Object.entries(values)) {
    const path = join(root, FILES[name as Name]);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${value}\n`);
  }
}
const read = (...names: Name[]): number[] => names.map((name) => Number(readFileSync(join(root, FILES[name]), "utf8")));
const kernel = { max: 65_536, buckets: 16_384, established: 432_000, closeWait: 60 };

test.each([
  { cores: 2, max: 131_072 },
  { cores: 8, max: 262_144 },
  { cores: 64, max: 1_048_576 },
])("with $cores CPUs there is room for $max entries", ({ cores, max }) => {
  expect(conntrackMax(CLUSTER_CONNTRACK, cores)).toBe(max);
});

test("more than the processors make is had by the least alone, which holds above their bound too", () => {
  expect(conntrackMax({ ...CLUSTER_CONNTRACK, min: 2_000_000 }, 2)).toBe(2_000_000);
  expect(conntrackMax({ ...CLUSTER_CONNTRACK, min: 2_000_000 }, 64)).toBe(2_000_000);
});

test("no entries for each CPU: the least counts for nothing", () => {
  expect(conntrackMax({ ...CLUSTER_CONNTRACK, maxPerCore: 0 }, CORES)).toBe(0);
});

it("sets what a cluster's node is expected to have, with buckets for it", () => {
  put(kernel);
  expect(createConntrackSysctls(CLUSTER_CONNTRACK, root, CORES).apply()).toEqual([]);
  expect(read("max", "buckets", "established", "closeWait")).toEqual([262_144, 65_536, 86_400, 3600]);
});

it("never lowers a limit", () => {
  put({ ...kernel, max: 500_000, buckets: 100_000 });
  createConntrackSysctls(CLUSTER_CONNTRACK, root, CORES).apply();
  expect(read("max", "buckets")).toEqual([500_000, 100_000]);
});

it("leaves alone what 0 is asked for", () => {
  put(kernel);
  createConntrackSysctls(NO_CONNTRACK, root, CORES).apply();
  expect(read("max", "buckets", "established", "closeWait")).toEqual(Object.values(kernel));
});

it("waits for netfilter to appear, without a word", () => {
  const sysctls = createConntrackSysctls(CLUSTER_CONNTRACK, root, CORES);
  expect(sysctls.apply()).toEqual([]);
  put(kernel);
  expect(sysctls.apply()).toEqual([]);
  expect(read("established", "closeWait")).toEqual([86_400, 3600]);
});

it("sets each once: what an administrator makes of it stays", () => {
  put(kernel);
  const sysctls = createConntrackSysctls(CLUSTER_CONNTRACK, root, CORES);
  sysctls.apply();
  put({ max: 1000, closeWait: 10 });
  sysctls.apply();
  expect(read("max", "closeWait")).toEqual([1000, 10]);
});

it("tells what it may not set, and sets the rest", () => {
  put(kernel);
  // A link to what reads as a number and refuses every write, root's too.
  rmSync(join(root, FILES.max));
  symlinkSync("/proc/sys/kernel/cap_last_cap", join(root, FILES.max));
  const sysctls = createConntrackSysctls(CLUSTER_CONNTRACK, root, CORES);
  expect(sysctls.apply()).toMatchObject([{ reason: "conntrack-not-set", field: "net.netfilter.nf_conntrack_max" }]);
  expect(read("closeWait")).toEqual([3600]);
});
