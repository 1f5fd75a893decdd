// Three groups: unit tests side by side; tests that meet the kernel (namespaces, programs, sysctls) one file after another, and so
// those of whole labs. Apart, with configurations of their own, are those that need a real cluster, Docker, Helm or Prometheus.
import { defineConfig, type UserWorkspaceConfig } from "vitest/config";
import { patience } from "./src/lib/patience.ts";
import { threadBundles } from "./test/thread-bundles.ts";

const KERNEL = ["test/kernel/**/*.test.ts", "test/**/*.kernel.test.ts"];
const LAB = ["test/lab/**/*.test.ts"];
const APART = ["test/cluster/**", "test/image/whole/**", "test/chart/helm/**", "test/prometheus/live/**"];

const plugins = [threadBundles()];

function oneByOne(name: string, include: string[], groupOrder: number): UserWorkspaceConfig {
  return {
    plugins,
    test: {
      name,
      include,
      fileParallelism: false,
      testTimeout: patience(120_000),
      hookTimeout: patience(180_000),
      sequence: { groupOrder },
    },
  };
}

export default defineConfig({
  test: {
    pool: "forks",
    projects: [
      {
        plugins,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...KERNEL, ...LAB, ...APART],
          testTimeout: patience(30_000),
          sequence: { groupOrder: 0 },
        },
      },
      oneByOne("kernel", KERNEL, 1),
      oneByOne("lab", LAB, 2),
    ],
  },
});
