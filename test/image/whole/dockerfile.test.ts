// deploy/Dockerfile makes the files and the settings of `make image`. Its base comes from here: a Debian with what the build installs, so that
// nothing is fetched while it runs.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { pathsBelow } from "../../../scripts/image/debian.ts";
import { runChecked } from "../../../src/lab/shell.ts";
import { VERSION } from "../../../src/lib/version.ts";
import { checkedOnHost, docker, dockerDown, dockerUp, runOnHost } from "../../kind/docker.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const BUILT = `localhost/millrace:${VERSION}`;
const BY_FILE = "localhost/millrace:by-dockerfile";

/** What `make build` and the image's script would install. */
const packages = [
  ...(/^packages='([^']+)'/m.exec(readFileSync(join(ROOT, "scripts/setup.sh"), "utf8"))?.[1] ?? "").split(" "),
  ...["make", "nodejs", "npm", "mmdebstrap"],
];
const BASE = `localhost/millrace-build:${createHash("sha256").update(packages.join()).digest("hex").slice(0, 12)}`;

let work: string;
beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), "millrace-dockerfile-"));
  await dockerUp();
  if ((await runOnHost(["docker", "image", "inspect", BASE])).status !== 0) {
    const base = join(work, "base.tar");
    const options = ["--mode=root", "--quiet", "--variant=minbase", `--include=${packages.join(",")}`];
    await runChecked("nice", ["-n", "5", "mmdebstrap", ...options, "bookworm", base]);
    await docker("import", base, BASE);
    rmSync(base);
  }
  const archive = join(work, "image.tar");
  await runChecked(process.execPath, [join(ROOT, "scripts/image.ts"), "archive", "--output", archive]);
  await docker("load", "--input", archive);
  const args = ["--network=none", `--build-arg=BASE=${BASE}`, "--file", join(ROOT, "deploy/Dockerfile")];
  await checkedOnHost(["docker", "build", "--quiet", ...args, "--tag", BY_FILE, ROOT]);
}, 1_800_000);
afterAll(async () => {
  await runOnHost(["docker", "image", "rm", "--force", BUILT, BY_FILE]);
  await runOnHost(["docker", "image", "prune", "--force"]);
  await dockerDown();
  rmSync(work, { recursive: true, force: true });
});

/** Every file of an image, with its mode, owner and content. */
async function contents(image: string): Promise<readonly string[]> {
  const root = join(work, image.replace(/\W/g, "-"));
  mkdirSync(root);
  const id = (await docker("create", image)).trim();
  try {
    await docker("export", "--output", `${root}.tar`, id);
  } finally {
    await docker("rm", id);
  }
  await runChecked("tar", ["-xf", `${root}.tar`, "-C", root]);
  const listed = await runChecked("tar", ["--numeric-owner", "-tvf", `${root}.tar`]);
  const modes = listed.split("\n").map((line) => line.replace(/ \d{4}-\d\d-\d\d \d\d:\d\d /, " "));
  const files = await runChecked("sh", [
    "-c",
    'cd "$0" && find . -type f -print0 | sort -z | xargs -0 sha256sum',
    root,
  ]);
  expect(pathsBelow(root).length).toBeGreaterThan(300);
  return [
    ...modes.filter(isOfImage).sort(),
    ...files.split("\n").filter((line) => !/ \.\/(etc\/(hosts|hostname|resolv\.conf)|\.dockerenv)$/.test(line)),
  ];
}

/** Docker adds a few files to each container. */
function isOfImage(line: string): boolean {
  return !/ (\.dockerenv|dev\/.*|dev\/|proc\/|sys\/|etc\/(hosts|hostname|resolv\.conf|mtab).*|etc\/)$/.test(line);
}

it("has the same files", async () => {
  const [one, other] = [await contents(BUILT), await contents(BY_FILE)];
  expect(other).toEqual(one);
});

it("has the same settings", async () => {
  const settings = async (image: string) => {
    const [{ Config }] = JSON.parse(await docker("image", "inspect", image)) as [{ Config: Record<string, unknown> }];
    const { Entrypoint, Cmd, Env, User, WorkingDir, StopSignal, Labels } = Config;
    return { Entrypoint, Cmd: Cmd ?? null, Env, User, WorkingDir, StopSignal, Labels };
  };
  expect(await settings(BY_FILE)).toEqual(await settings(BUILT));
});
