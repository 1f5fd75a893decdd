// Tests that run Helm: `make test-chart`.
import { resolve } from "node:path";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: resolve(import.meta.dirname, "../../.."),
    include: ["test/chart/helm/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
