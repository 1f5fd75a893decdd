// The image as a whole: built twice, read by Docker and containerd, run without a shell; for the other architecture unpacked only, as it
// cannot be run here.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pathsBelow } from "../../../scripts/image/debian.ts";
import { missingLibraries } from "../../../scripts/image/libraries.ts";
import { type Architecture, LINKS, PROGRAMS, SIZE_LIMIT } from "../../../scripts/image/recipe.ts";
import { runChecked, runProgram } from "../../../src/lab/shell.ts";
import { VERSION } from "../../../src/lib/version.ts";
import { docker, dockerDown, dockerUp, runOnHost } from "../../kind/docker.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const NAME = `localhost/millrace:${VERSION}`;
const OWN: Architecture = process.arch === "arm64" ? "arm64" : "amd64";

let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "millrace-images-"));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

async function build(architecture: Architecture, name: string): Promise<{ archive: string; said: string }> {
  const archive = join(work, name);
  const args = [join(ROOT, "scripts/image.ts"), "archive", "--arch", architecture, "--output", archive];
  return { archive, said: await runChecked(process.execPath, args) };
}

/** The files of an archive's layers, in a directory. */
async function unpack(archive: string, name: string): Promise<string> {
  const [blobs, root] = [join(work, `${name}-blobs`), join(work, name)];
  for (const directory of [blobs, root]) mkdirSync(directory);
  await runChecked("tar", ["-xf", archive, "-C", blobs]);
  const [{ Layers }] = JSON.parse(readFileSync(join(blobs, "manifest.json"), "utf8")) as [{ Layers: string[] }];
  for (const layer of Layers) await runChecked("tar", ["-xzf", join(blobs, layer), "-C", root]);
  return root;
}

const sha256 = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");

describe("an image that is built twice", () => {
  it("has one digest, also when nothing was kept of the first", async () => {
    const one = await build(OWN, "one.tar");
    rmSync(join(ROOT, ".cache/image/layers"), { recursive: true });
    const other = await build(OWN, "other.tar");
    expect(digestIn(other.said)).toBe(digestIn(one.said));
    expect(sha256(other.archive)).toBe(sha256(one.archive));
    expect(statSync(one.archive).size).toBeLessThan(SIZE_LIMIT + 1e6);
    process.stdout.write(one.said);
  });
});

function digestIn(said: string): string {
  return /sha256:[0-9a-f]{64}/.exec(said)![0];
}

describe.each<Architecture>(["amd64", "arm64"])("the files for %s", (architecture) => {
  let root: string;
  beforeAll(async () => {
    root = await unpack((await build(architecture, `${architecture}.tar`)).archive, architecture);
  });

  it("are of that architecture, with every library that they need", () => {
    const machine = { amd64: 62, arm64: 183 }[architecture];
    const machines = pathsBelow(root)
      .filter((path) => lstatSync(join(root, path)).isFile())
      .map((path) => ({ path, file: readFileSync(join(root, path)) }))
      // Programs for the kernel are of no processor's.
      .filter(({ path, file }) => file.length > 64 && file.readUInt32BE(0) === 0x7f454c46 && !path.endsWith(".bpf.o"))
      .map(({ path, file }) => ({ path, machine: file.readUInt16LE(18) }));
    expect(machines.length).toBeGreaterThan(50);
    expect(machines.filter((one) => one.machine !== machine)).toEqual([]);
    expect(missingLibraries([root])).toEqual([]);
  });

  it("have no shell, no interpreter but Node, and nothing that needs one", () => {
    const names = pathsBelow(root).map((path) => basename(path));
    expect(names.filter((name) => /^(sh|bash|dash|busybox|perl.*|python.*|apt.*|dpkg.*)$/.test(name))).toEqual([]);
    const scripts = pathsBelow(root)
      .filter((path) => lstatSync(join(root, path)).isFile() && statSync(join(root, path)).mode & 0o111)
      .filter((path) => readFileSync(join(root, path)).toString("latin1", 0, 2) === "#!");
    expect(scripts).toEqual(["usr/local/lib/millrace/millrace.mjs"]);
  });

  it("set no user ID, and say whose they are", () => {
    const files = pathsBelow(root);
    expect(files.filter((path) => lstatSync(join(root, path)).mode & 0o6000)).toEqual([]);
    expect(files).toEqual(expect.arrayContaining(["usr/share/doc/node/copyright", "usr/share/doc/libc6/copyright"]));
    const control = readFileSync(join(root, "var/lib/dpkg/status.d/libbpf1"), "utf8");
    expect(control).toMatch(/^Package: libbpf1$/m);
    expect(control).toContain(`Architecture: ${architecture}`);
  });
});

describe("Docker", () => {
  beforeAll(async () => {
    await dockerUp();
    await docker("load", "--input", (await build(OWN, "docker.tar")).archive);
  });
  afterAll(async () => {
    await docker("image", "rm", "--force", NAME);
    await dockerDown();
  });

  const run = (...args: string[]) => runOnHost(["docker", "run", "--rm", "--network=none", ...args]);

  it("loads it and runs it without a shell", async () => {
    const { status, stdout, stderr } = await run(NAME, "version");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(VERSION);
    expect((await run("--entrypoint=/bin/sh", NAME, "-c", "true")).status).toBe(127);
  });

  it("gives flags and status through", async () => {
    const { status, stderr } = await run(NAME, "status", "--socket", "/run/none.sock");
    expect(stderr).toContain("/run/none.sock");
    expect(status).toBe(6);
  });

  it("runs it on a root that is read-only", async () => {
    expect((await run("--read-only", NAME, "version")).status).toBe(0);
  });

  it("finds the command in a container that runs, as `kubectl exec` does", async () => {
    const sleep = "setTimeout(() => {}, 1e9)";
    const id = (await docker("run", "--detach", "--entrypoint=/usr/local/bin/node", NAME, "-e", sleep)).trim();
    try {
      expect(await docker("exec", id, "millrace", "version")).toContain(VERSION);
    } finally {
      await docker("rm", "--force", id);
    }
  });

  it("starts Node with the flags of the launcher", async () => {
    const asked = "console.log(JSON.stringify([process.execArgv, process.env.MALLOC_ARENA_MAX]))";
    const interpreter = execFileSync("head", ["-1", join(ROOT, "dist/millrace.mjs")], { encoding: "utf8" });
    expect(interpreter).not.toContain("#!");
    const read =
      "console.log(require('fs').readFileSync('/usr/local/lib/millrace/millrace.mjs', 'utf8').split('\\n')[0])";
    const { stdout } = await run("--entrypoint=/usr/local/bin/node", NAME, "-e", read);
    const flags = stdout.trim().split(" ").slice(3);
    const shown = await run(
      "--entrypoint=/usr/bin/env",
      NAME,
      "-S",
      `/usr/local/bin/node ${flags.join(" ")}`,
      "-e",
      asked,
    );
    expect(JSON.parse(shown.stdout)).toEqual([
      expect.arrayContaining(["--max-semi-space-size=2", "--no-parallel-scavenge", "--heap-growing-percent=10"]),
      "2",
    ]);
  });

  it("finds libbpf where koffi looks for it", async () => {
    const ask = `const koffi = require("/usr/local/lib/millrace/node_modules/koffi");
      console.log(koffi.load("libbpf.so.1").func("uint32_t libbpf_major_version()")());`;
    const { stdout, stderr } = await run("--entrypoint=/usr/local/bin/node", NAME, "-e", ask);
    expect(stderr).toBe("");
    expect(stdout.trim()).toBe("1");
  });

  const programs = [...Object.values(PROGRAMS).flat(), ...Object.keys(LINKS)].filter((path) =>
    /^usr\/s?bin\/./.test(path),
  );
  it.each(programs)("runs /%s", async (path) => {
    const flag = ["tc", "ip", "nft", "iptables"].some((name) => path.endsWith(`/${name}`)) ? "-V" : "--version";
    const own = basename(path).startsWith("xtables-")
      ? [basename(path).includes("nft") ? "iptables-nft" : "iptables-legacy"]
      : [];
    const { status, stdout, stderr } = await run(`--entrypoint=/${path}`, NAME, ...own, flag);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/\d+\.\d+/);
  });

  it("says what it is", async () => {
    const [image] = JSON.parse(await docker("image", "inspect", NAME)) as { Config: object; Os: string }[];
    expect(image).toMatchObject({
      Os: "linux",
      Architecture: OWN,
      Config: {
        Entrypoint: ["/usr/local/bin/millrace"],
        Labels: { "org.opencontainers.image.title": "millrace", "org.opencontainers.image.version": VERSION },
      },
    });
  });
});

describe("containerd", () => {
  it("imports it by its name, as an OCI layout, with all its parts", async () => {
    const { archive } = await build(OWN, "containerd.tar");
    const script = `set -eu
printf 'version = 2\\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\\n' >"$0/config.toml"
containerd --config "$0/config.toml" --root "$0/root" --state "$0/state" --address "$0/socket" --log-level error &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
tries=0
until ctr --address "$0/socket" --connect-timeout 1s version >/dev/null 2>&1; do
  tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.1
done
ctr --address "$0/socket" --namespace k8s.io images import --all-platforms "$1" >/dev/null
ctr --address "$0/socket" --namespace k8s.io images check`;
    const home = join(work, "containerd");
    mkdirSync(home);
    const { status, stdout, stderr } = await runProgram("unshare", [
      "--mount",
      "--",
      "sh",
      "-c",
      script,
      home,
      archive,
    ]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(
      new RegExp(`^${NAME}\\s+application/vnd\\.oci\\.image\\.manifest.*\\scomplete \\(4/4\\).*true`, "m"),
    );
  });
});
