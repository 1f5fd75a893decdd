// A Vite plugin: threads that tests start run as JavaScript, bundled first. Started from TypeScript, each would have Node strip its types
// by WebAssembly, and V8 can die of freeing code that threads share ("Check failed: jit_page.has_value()", nodejs/node#64500).
// The program's own threads are bundled anyway and run no WebAssembly.
import { basename, dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import type { Plugin } from "vitest/config";
import { replaceStarted, startedFiles } from "../scripts/started-modules.ts";

/** As deep as the sources, for what they find relative to themselves. */
const OUTPUT = resolve(import.meta.dirname, "../build/threads");
/** What a thread's module is called; others that are started are processes. */
const THREAD = /-worker$/;

export function threadBundles(): Plugin {
  const built = new Map<string, Promise<string>>();

  async function bundle(source: string): Promise<string> {
    const outfile = resolve(OUTPUT, basename(source).replace(/\.ts$/, ".mjs"));
    await build({
      entryPoints: [source],
      outfile,
      bundle: true,
      packages: "external",
      platform: "node",
      format: "esm",
      target: "node24",
      sourcemap: "inline",
      logLevel: "error",
    });
    return pathToFileURL(outfile).href;
  }

  return {
    name: "thread-bundles",
    enforce: "pre",
    async transform(code, id) {
      const urls = new Map<string, string>();
      for (const path of startedFiles(code).filter((one) => THREAD.test(one))) {
        const source = resolve(dirname(id), `${path}.ts`);
        const bundled = built.get(source) ?? bundle(source);
        built.set(source, bundled);
        urls.set(path, await bundled);
      }
      return urls.size === 0 ? undefined : { code: replaceStarted(code, (path) => urls.get(path)), map: null };
    },
  };
}
