// Tests that need Prometheus itself, one file after another: `make test-prometheus`.
import { resolve } from "node:path";
import { defineConfig } from "vitest/config";
import { patience } from "../../../src/lib/patience.ts";
import { threadBundles } from "../../thread-bundles.ts";

export default defineConfig({
  plugins: [threadBundles()],
  test: {
    root: resolve(import.meta.dirname, "../../.."),
    include: ["test/prometheus/live/**/*.test.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: patience(900_000),
    hookTimeout: patience(300_000),
  },
});
