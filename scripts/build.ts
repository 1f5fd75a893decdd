// Bundles src/ into dist/: dist/millrace (launcher), dist/*.mjs (modules, split so that a command loads only what it
// needs), dist/bpf/*.o, the examples, the manifest that `install` applies, and koffi, whose native part no bundler can hold. dist/ then needs Node 24 and libbpf, nothing else.
import { existsSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { build, type Plugin } from "esbuild";
import { MALLOC_ARENAS, NODE_FLAGS } from "./node-flags.ts";
import { replaceStarted, startedFiles } from "./started-modules.ts";

const root = resolve(import.meta.dirname, "..");
const dist = join(root, "dist");
const staging = join(root, `build/dist-${process.pid}`);

/** The source that a path in `file` means, and its name in dist/. */
function startedModule(file: string, path: string): { source: string; name: string } {
  const source = resolve(dirname(file), `${path}.ts`);
  if (!existsSync(source)) throw new Error(`${relative(root, file)} starts ${path}.ts, which does not exist`);
  return { source, name: source === join(root, "src/main.ts") ? "millrace" : basename(source, ".ts") };
}

/** Entry points by output name: main, and every module that another one starts by its file. */
async function entryPoints(): Promise<Map<string, string>> {
  const entries = new Map([["millrace", join(root, "src/main.ts")]]);
  const sources = (await filesBelow(join(root, "src"))).filter((path) => path.endsWith(".ts"));
  for (const file of sources.map((path) => join(root, "src", path))) {
    for (const path of startedFiles(await readFile(file, "utf8"))) {
      const { source, name } = startedModule(file, path);
      const other = entries.get(name) ?? source;
      if (other !== source) throw new Error(`${other} and ${source} would both become ${name}.mjs`);
      entries.set(name, source);
    }
  }
  return entries;
}

/** In dist/ all modules are siblings: what is started by its file is `./<name>.mjs` from each of them. */
const startedModules: Plugin = {
  name: "started-modules",
  setup(context) {
    context.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path: file }) => ({
      loader: "ts",
      contents: replaceStarted(await readFile(file, "utf8"), (path) => `./${startedModule(file, path).name}.mjs`),
    }));
  },
};

/**
 * An import statement asks a module for all its exports. Asking node:http for WebSocket loads undici: megabytes and a tenth of
 * a second for each thread, for nothing. Taken as an object, a module gives only what is used, and is loaded only then where it
 * was required as a whole (commander and node:child_process).
 */
const lazyBuiltins: Plugin = {
  name: "lazy-builtins",
  setup(context) {
    context.onResolve({ filter: /^(node:)?(http|fs|util|child_process|timers\/promises|os|path)$/ }, ({ path }) => ({
      path: path.startsWith("node:") ? path : `node:${path}`,
      namespace: "builtin",
    }));
    context.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `const load = () => process.getBuiltinModule(${JSON.stringify(path)});
        module.exports = new Proxy({}, {
          get: (_, name) => load()[name],
          ownKeys: () => Reflect.ownKeys(load()),
        });`,
    }));
  },
};

const LAUNCHER = `#!/bin/sh
# Starts Millrace with a Node.js of version 24 or later: the project's own, else the one on PATH.
here=$(dirname "$(readlink -f "$0")")
flags='${NODE_FLAGS.join(" ")}'
MALLOC_ARENA_MAX=\${MALLOC_ARENA_MAX:-${MALLOC_ARENAS}}
export MALLOC_ARENA_MAX
for node in "$here/node" "$here/../node_modules/.bin/node"; do
  [ -x "$node" ] && exec "$node" $flags "$here/millrace.mjs" "$@"
done
if command -v node >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) >= 24 ? 0 : 1)'; then
  exec node $flags "$here/millrace.mjs" "$@"
fi
echo "millrace: it needs Node.js 24 or later and found none: run \\"make setup\\" in the project, or put one on PATH" >&2
exit 3
`;

/** Of koffi what runs: its JavaScript, and the native module for this machine. */
async function copyKoffi(): Promise<void> {
  const parts: [name: string, wanted: RegExp][] = [
    ["koffi", /^(package\.json|LICENSE\.txt|index\.c?js|src\/koffi\/.*\.c?js)$/],
    [`@koromix/koffi-linux-${process.arch}`, /^(package\.json|index\.js|linux_[^/]+\/.*)$/],
  ];
  for (const [name, wanted] of parts) {
    const from = join(root, "node_modules", name);
    for (const file of (await filesBelow(from)).filter((path) => wanted.test(path))) {
      const to = join(staging, "node_modules", name, file);
      await mkdir(dirname(to), { recursive: true });
      await copyFile(join(from, file), to);
    }
  }
}

/** Paths of all files below a directory, relative to it. */
async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
}

/** Replaces dist/ file by file, each by rename: a process that starts during a build finds every module. */
async function publish(): Promise<void> {
  const fresh = await filesBelow(staging);
  for (const file of fresh) {
    await mkdir(dirname(join(dist, file)), { recursive: true });
    await rename(join(staging, file), join(dist, file));
  }
  const kept = new Set(fresh);
  for (const file of await filesBelow(dist)) if (!kept.has(file)) await rm(join(dist, file));
}

async function main(): Promise<void> {
  await mkdir(join(staging, "bpf"), { recursive: true });
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
  await build({
    entryPoints: Object.fromEntries(await entryPoints()),
    outdir: staging,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    external: ["koffi"],
    define: { MILLRACE_VERSION: JSON.stringify(version) },
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    chunkNames: "chunk-[hash]",
    legalComments: "external",
    logLevel: "warning",
    plugins: [startedModules, lazyBuiltins],
  });
  for (const object of await readdir(join(root, "build/bpf"))) {
    if (object.endsWith(".bpf.o")) await copyFile(join(root, "build/bpf", object), join(staging, "bpf", object));
  }
  await cp(join(root, "deploy/examples"), join(staging, "examples"), { recursive: true });
  await mkdir(join(staging, "deploy"), { recursive: true });
  await copyFile(join(root, "deploy/millrace.yaml"), join(staging, "deploy/millrace.yaml"));
  await copyKoffi();
  await writeFile(join(staging, "millrace"), LAUNCHER);
  await chmod(join(staging, "millrace"), 0o755);
  await publish();
  const { size } = await stat(join(dist, "millrace.mjs"));
  if (size === 0) throw new Error("dist/millrace.mjs is empty");
}

try {
  await main();
} catch (error) {
  process.stderr.write(`build: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  await rm(staging, { recursive: true, force: true });
}
