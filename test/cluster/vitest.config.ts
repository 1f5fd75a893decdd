// Tests on a real cluster, one file after another: `make test-cluster`. With THROUGH=daemonset agents are pods: those files are left
// out that give an agent flags, files or an account of its own.
import { resolve } from "node:path";
import { defineConfig } from "vitest/config";
import { patience } from "../../src/lib/patience.ts";

const OF_PROGRAMS = ["load-balancer", "outage", "pools", "rights", "with-controller"];
const left = process.env["THROUGH"] === "daemonset" ? OF_PROGRAMS.map((name) => `test/cluster/${name}.test.ts`) : [];

export default defineConfig({
  test: {
    root: resolve(import.meta.dirname, "../.."),
    include: ["test/cluster/**/*.test.ts"],
    exclude: left,
    pool: "forks",
    fileParallelism: false,
    testTimeout: patience(120_000),
    hookTimeout: patience(300_000),
  },
});
