// Debian's part of an image: packages are fetched by Debian's own tools, which check signatures, and unpacked, nothing of them is
// run: so another architecture's can be made, too.
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import { type Architecture, DIRECTORIES, FILES, LEFT_OUT, LINKS, PACKAGES, PROGRAMS, SUITE } from "./recipe.ts";

/** In mmdebstrap's hook: apt as it was set up for the suite and the architecture. Files go to the working directory. */
const FETCH = 'cd "$PACKAGES_TO" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q download $PACKAGES_WANTED >&2';

/** A directory with the packages' .deb files, fetched once and kept below `cache`. */
export async function fetchPackages(cache: string, architecture: Architecture): Promise<string> {
  const key = createHash("sha256")
    .update(`${SUITE} ${PACKAGES.join(" ")}`)
    .digest("hex")
    .slice(0, 12);
  const kept = join(cache, `debian-${architecture}-${key}`);
  if (existsSync(kept)) return kept;
  const part = `${kept}.part`;
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { recursive: true });
  const root = mkdtempSync(join(tmpdir(), "millrace-image-"));
  try {
    const options = ["--quiet", "--variant=custom", `--architectures=${architecture}`, "--format=directory"];
    // In an image's build there is nothing that may be mounted, and nothing has to be.
    const bare = ["--mode=root", "--skip=check/qemu,check/canmount,cleanup"];
    const env = { ...process.env, PACKAGES_TO: part, PACKAGES_WANTED: PACKAGES.join(" ") };
    await runChecked("mmdebstrap", [...options, ...bare, `--extract-hook=${FETCH}`, SUITE, join(root, "root")], {
      env,
    });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  const fetched = new Set(debs(part).map(packageName));
  const missing = PACKAGES.filter((name) => !fetched.has(name));
  if (missing.length > 0) {
    throw new Failure("not_found", "packages", `could not fetch Debian's ${missing.join(", ")} for ${architecture}`);
  }
  renameSync(part, kept);
  return kept;
}

/** The .deb files of a directory, sorted. */
function debs(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(".deb"))
    .sort();
}

/** NAME_VERSION_ARCHITECTURE.deb */
function packageName(file: string): string {
  return file.split("_", 1)[0] ?? "";
}

/** Fills an empty directory with what the image has of Debian, and with the files and links that are its own. */
export async function makeDebianTree(packages: string, root: string): Promise<void> {
  for (const name of DIRECTORIES) mkdirSync(join(root, name), { recursive: true });
  for (const [name, target] of Object.entries(LINKS)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    symlinkSync(target, join(root, name));
  }
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(root, name), text);
  for (const deb of debs(packages)) {
    const unpacked = mkdtempSync(join(tmpdir(), "millrace-deb-"));
    try {
      await runChecked("dpkg-deb", ["--extract", join(packages, deb), unpacked]);
      takePackage(packageName(deb), unpacked, root);
    } finally {
      rmSync(unpacked, { recursive: true, force: true });
    }
    // Where scanners look for the packages of images that have no package manager.
    const control = await runChecked("dpkg-deb", ["--field", join(packages, deb)]);
    writeFileSync(join(root, "var/lib/dpkg/status.d", packageName(deb)), control);
  }
}

/** Copies what the image has of an unpacked package. Directories that are links (`/lib`) are followed. */
export function takePackage(name: string, unpacked: string, root: string): void {
  const programs = PROGRAMS[name] ?? [];
  const found = new Set<string>();
  for (const path of pathsBelow(unpacked)) {
    const merged = path.replace(/^(s?bin|lib|lib64)\//, "usr/$1/");
    if (programs.includes(merged)) found.add(merged);
    else if (LEFT_OUT.some((pattern) => pattern.test(merged))) continue;
    copyEntry(join(unpacked, path), join(root, merged));
  }
  const missing = programs.filter((program) => !found.has(program));
  if (missing.length > 0) {
    throw new Failure("not_found", name, `could not find ${missing.join(", ")} in Debian's package ${name}`);
  }
}

function copyEntry(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  const entry = lstatSync(from);
  rmSync(to, { force: true });
  if (entry.isSymbolicLink()) {
    symlinkSync(readlinkSync(from), to);
    return;
  }
  copyFileSync(from, to);
  chmodSync(to, entry.mode & 0o111 ? 0o755 : 0o644);
}

/** Files and links below a directory, relative to it, sorted; links are not followed. */
export function pathsBelow(directory: string, prefix = ""): string[] {
  return readdirSync(join(directory, prefix), { withFileTypes: true })
    .sort((one, other) => (one.name < other.name ? -1 : 1))
    .flatMap((entry) => {
      const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
      return entry.isDirectory() ? pathsBelow(directory, path) : [path];
    });
}
