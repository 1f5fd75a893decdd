// kube-proxy's own tables, asked of the model and of the programs: `make kube-proxy-tables`.
import { resolve } from "node:path";
import { defineConfig } from "vitest/config";
import { threadBundles } from "../../thread-bundles.ts";

export default defineConfig({
  plugins: [threadBundles()],
  test: {
    root: resolve(import.meta.dirname, "../../.."),
    include: ["test/conformance/tables/*.tables.ts"],
    pool: "forks",
    fileParallelism: false,
  },
});
