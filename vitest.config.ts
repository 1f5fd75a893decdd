// Two groups: unit tests side by side; tests that meet the kernel (namespaces, programs, sysctls) one file after another.
// Tests that need a real cluster are apart: test/cluster/vitest.config.ts.
import { defineConfig } from "vitest/config";
import { patience } from "./src/lib/patience.ts";
import { threadBundles } from "./test/thread-bundles.ts";

const KERNEL = ["test/kernel/**/*.test.ts", "test/lab/**/*.test.ts", "test/**/*.kernel.test.ts"];

const plugins = [threadBundles()];

export default defineConfig({
  test: {
    pool: "forks",
    projects: [
      {
        plugins,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...KERNEL, "test/cluster/**"],
          testTimeout: patience(30_000),
          sequence: { groupOrder: 0 },
        },
      },
      {
        plugins,
        test: {
          name: "kernel",
          include: KERNEL,
          fileParallelism: false,
          testTimeout: patience(120_000),
          hookTimeout: patience(180_000),
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
