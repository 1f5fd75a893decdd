// Tests of whole images, which need Docker and containerd and take minutes: one file after another.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/image/whole/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
