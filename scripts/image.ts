// `make image`: an image of the program without Docker and without a registry, in build/millrace-image-ARCHITECTURE.tar. `tree DIR` instead
// puts the same files into an empty directory, for deploy/Dockerfile. dist/ was built before.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { Command, Option } from "commander";
import { runChecked } from "../src/lab/shell.ts";
import { FAILURES, Failure } from "../src/lib/errors.ts";
import { writeArchive } from "./image/archive.ts";
import { fetchPackages, makeDebianTree, pathsBelow } from "./image/debian.ts";
import { packLayer, setModes } from "./image/layer.ts";
import { missingLibraries } from "./image/libraries.ts";
import {
  ARCHITECTURES,
  type Architecture,
  COMMAND,
  HOME,
  type ImageText,
  INTERPRETER,
  MAIN,
  NODE,
  runConfig,
  SIZE_LIMIT,
  SUITE,
} from "./image/recipe.ts";

const root = resolve(import.meta.dirname, "..");
const cache = join(root, ".cache/image");
const dist = join(root, "dist");
const own = (Object.keys(ARCHITECTURES) as Architecture[]).find((name) => ARCHITECTURES[name].npm === process.arch);

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as ImageText;

interface Part {
  readonly title: string;
  readonly directory: string;
}

/** The three parts of the image, as directories below `work`: what changes least comes first, so that an upgrade pulls little. */
async function makeParts(architecture: Architecture, work: string): Promise<readonly Part[]> {
  if (!existsSync(join(dist, "millrace.mjs"))) {
    throw new Failure("not_found", dist, `could not make the image: ${dist} is not built: run make build`);
  }
  const part = (title: string, name: string): Part => {
    mkdirSync(join(work, name), { recursive: true });
    return { title, directory: join(work, name) };
  };
  const debian = part(`packages of Debian ${SUITE}`, "debian");
  await makeDebianTree(await fetchPackages(cache, architecture), debian.directory);
  const { npm } = ARCHITECTURES[architecture];
  const nodePackage = await npmPackage(`node-linux-${npm}`);
  const { version } = JSON.parse(readFileSync(join(nodePackage, "package.json"), "utf8")) as { version: string };
  const node = part(`Node.js ${version}`, "node");
  put(join(nodePackage, "bin/node"), join(node.directory, NODE), 0o755);
  put(join(nodePackage, "LICENSE"), join(node.directory, "usr/share/doc/node/copyright"));
  const millrace = part(`Millrace ${manifest.version}`, "millrace");
  await makeMillraceTree(millrace.directory, await npmPackage(`@koromix/koffi-linux-${npm}`), npm);
  const missing = missingLibraries([debian, node, millrace].map(({ directory }) => directory));
  if (missing.length > 0) {
    throw new Failure(
      "not_found",
      "libraries",
      `could not make the image: ${missing.join("; ")}: name the package that has it in scripts/image/recipe.ts`,
    );
  }
  return [debian, node, millrace];
}

/** dist/ with the native module of the architecture, and the main module made a program. */
async function makeMillraceTree(tree: string, koffi: string, npm: string): Promise<void> {
  const home = join(tree, HOME);
  const skipped = ["millrace", ".cache", "node_modules/@koromix"].map((name) => join(dist, name));
  cpSync(dist, home, { recursive: true, filter: (path) => !skipped.includes(path) });
  const wanted = /^(package\.json|index\.js|linux_[^/]+)$/;
  const native = join(home, `node_modules/@koromix/koffi-linux-${npm}`);
  cpSync(koffi, native, { recursive: true, filter: (path) => path === koffi || wanted.test(topOf(koffi, path)) });
  // One file is a program; a library's helper script is none.
  for (const path of pathsBelow(home)) chmodSync(join(home, path), 0o644);
  writeFileSync(join(tree, MAIN), INTERPRETER + readFileSync(join(dist, "millrace.mjs"), "utf8"));
  chmodSync(join(tree, MAIN), 0o755);
  mkdirSync(dirname(join(tree, COMMAND)), { recursive: true });
  symlinkSync(relative(dirname(`/${COMMAND}`), `/${MAIN}`), join(tree, COMMAND));
  put(join(root, "LICENSE"), join(tree, "usr/share/doc/millrace/copyright"));
}

function topOf(directory: string, path: string): string {
  return relative(directory, path).split("/", 1)[0] ?? "";
}

function put(from: string, to: string, mode = 0o644): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, mode);
}

/**
 * The directory of an npm package of the lock file: the installed one, else fetched by npm and compared with the lock file's hash, as of
 * another architecture nothing is installed.
 */
async function npmPackage(name: string): Promise<string> {
  const installed = join(root, "node_modules", name);
  if (existsSync(join(installed, "package.json"))) return installed;
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Readonly<Record<string, { version: string; integrity: string }>>;
  };
  const locked = lock.packages[`node_modules/${name}`];
  if (locked === undefined) throw new Failure("not_found", name, `could not find ${name} in package-lock.json`);
  const kept = join(cache, `${name.replaceAll("/", "-")}-${locked.version}`);
  if (existsSync(kept)) return kept;
  rmSync(`${kept}.part`, { recursive: true, force: true });
  mkdirSync(`${kept}.part`, { recursive: true });
  // npm runs on the system's Node: not on the one that it installs.
  const path = (process.env["PATH"] ?? "").split(":").filter((entry) => !entry.endsWith("node_modules/.bin"));
  await runChecked("npm", ["pack", "--silent", `--pack-destination=${kept}.part`, `${name}@${locked.version}`], {
    env: { ...process.env, PATH: path.join(":") },
  });
  const [file = ""] = readdirSync(`${kept}.part`);
  const archive = join(`${kept}.part`, file);
  const hash = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
  if (hash !== locked.integrity) {
    throw new Failure(
      "invalid_object",
      name,
      `could not use ${name} ${locked.version}: package-lock.json has another hash`,
    );
  }
  await runChecked("tar", ["-xzf", archive, "-C", `${kept}.part`, "--strip-components=1"]);
  rmSync(archive);
  renameSync(`${kept}.part`, kept);
  return kept;
}

/** SOURCE_DATE_EPOCH, else when the last commit was made, else 1970. @throws usage */
function createdAt(): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined && !/^\d{1,10}$/.test(given)) {
    throw new Failure(
      "usage",
      "SOURCE_DATE_EPOCH",
      `could not use SOURCE_DATE_EPOCH=${given}: take seconds since 1970`,
    );
  }
  if (given !== undefined) return Number(given);
  try {
    const args = ["-C", root, "log", "-1", "--format=%ct"];
    return Number(execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })) || 0;
  } catch {
    return 0;
  }
}

/** Makes something in a directory that is gone afterwards. */
async function inWorkDirectory<T>(make: (work: string) => Promise<T>): Promise<T> {
  mkdirSync(join(root, "build"), { recursive: true });
  const work = mkdtempSync(join(root, "build/image-"));
  try {
    return await make(work);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1).padStart(6)} MB`;

interface ArchiveOptions {
  readonly arch: Architecture;
  readonly name: string;
  readonly output?: string;
}

async function makeArchive({ arch, name, output }: ArchiveOptions): Promise<void> {
  const target = resolve(output ?? join(root, `build/millrace-image-${arch}.tar`));
  await inWorkDirectory(async (work) => {
    const layers = [];
    for (const { title, directory } of await makeParts(arch, work)) {
      layers.push(await packLayer(title, directory, join(cache, "layers")));
    }
    const size = layers.reduce((sum, layer) => sum + layer.size, 0);
    if (size > SIZE_LIMIT) {
      throw new Failure("exhausted", target, `could not make ${target}: ${megabytes(size).trim()}, at most 60 allowed`);
    }
    const digest = await writeArchive(
      { name, architecture: arch, run: runConfig(manifest), layers, created: createdAt() },
      target,
    );
    for (const layer of layers) {
      process.stdout.write(
        `  ${megabytes(layer.size)}  ${layer.title} (${megabytes(layer.unpacked).trim()} unpacked)\n`,
      );
    }
    process.stdout.write(`  ${megabytes(size)}  ${relative(process.cwd(), target)}: ${name}, ${arch}\n  ${digest}\n`);
  });
}

async function makeTree(target: string, { arch }: { arch: Architecture }): Promise<void> {
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new Failure("conflict", target, `could not make the tree in ${target}: it is not empty`);
  }
  await inWorkDirectory(async (work) => {
    for (const { directory } of await makeParts(arch, work)) {
      cpSync(directory, target, { recursive: true, verbatimSymlinks: true });
    }
    setModes(target);
  });
}

const arch = () =>
  new Option("--arch <name>", "architecture of the image")
    .choices(Object.keys(ARCHITECTURES))
    .default(own)
    .makeOptionMandatory();
const program = new Command("image").description("An image of Millrace, without Docker and without a registry");
program
  .command("archive")
  .addOption(arch())
  .option("--name <image>", "what it is called, with a tag", `localhost/millrace:${manifest.version}`)
  .option("--output <file>", "where to (default: build/millrace-image-ARCHITECTURE.tar)")
  .action(makeArchive);
program.command("tree").argument("<directory>", "empty or not there").addOption(arch()).action(makeTree);

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`image: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof Failure ? FAILURES[error.code].exit : 1;
}
