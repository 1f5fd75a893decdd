// Layers and archives: the same files give the same bytes, and every reader finds its way through them.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Image, writeArchive } from "../../scripts/image/archive.ts";
import { type Layer, packLayer } from "../../scripts/image/layer.ts";
import { runConfig } from "../../scripts/image/recipe.ts";

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "millrace-layer-"));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

const FILES: readonly (readonly [path: string, text: string, mode: number])[] = [
  ["usr/bin/program", "runs\n", 0o755],
  ["etc/config", "reads\n", 0o644],
  [`usr/lib/${"deep/".repeat(24)}file`, "far down\n", 0o644],
];

/** The files in a directory of its own, made in the given order, with modes and times of one who builds. */
function tree(name: string, { reversed = false, umask = 0, seconds = 1e9 } = {}): string {
  const directory = join(work, name);
  for (const [path, text, mode] of reversed ? FILES.toReversed() : FILES) {
    const file = join(directory, path);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, text);
    chmodSync(file, mode & ~umask);
    utimesSync(file, seconds, seconds);
  }
  symlinkSync("program", join(directory, "usr/bin/other"));
  return directory;
}

const pack = (directory: string, cache: string): Promise<Layer> => packLayer("test", directory, join(work, cache));

describe("packLayer()", () => {
  it("gives the same bytes whoever made the files, when, and in which order", async () => {
    const one = await pack(tree("one"), "cache1");
    const other = await pack(tree("other", { reversed: true, umask: 0o077, seconds: 1.7e9 }), "cache2");
    expect({ ...other, file: "" }).toEqual({ ...one, file: "" });
    expect(readFileSync(other.file)).toEqual(readFileSync(one.file));
  });

  it("gives other digests for another content, name or mode", async () => {
    const digests = [(await pack(tree("same"), "cache")).digest];
    const changes: ((directory: string) => void)[] = [
      (directory) => writeFileSync(join(directory, "etc/config"), "reads more\n"),
      (directory) => writeFileSync(join(directory, "etc/new"), ""),
      (directory) => chmodSync(join(directory, "etc/config"), 0o755),
    ];
    for (const [i, change] of changes.entries()) {
      const directory = tree(`changed${i}`);
      change(directory);
      digests.push((await pack(directory, "cache")).digest);
    }
    expect(new Set(digests).size).toBe(4);
  });

  it("names root as the owner, and no file sets a user ID", async () => {
    const directory = tree("owned");
    chmodSync(join(directory, "usr/bin/program"), 0o4711);
    const { file } = await pack(directory, "cache");
    const listed = execFileSync("tar", ["-tvzf", file, "--numeric-owner", "--utc"], { encoding: "utf8" }).trim();
    for (const line of listed.split("\n")) expect(line).toMatch(/^[dl-]rwx?[r-].* 0\/0 .* 1970-01-01 00:00 /);
    expect(listed).toMatch(/^-rwxr-xr-x .* usr\/bin\/program$/m);
    expect(listed).toMatch(/^-rw-r--r-- .* etc\/config$/m);
    expect(listed).toMatch(/usr\/bin\/other -> program$/m);
  });

  it("has the digests of what it wrote", async () => {
    const { file, digest, diffId, size, unpacked } = await pack(tree("one"), "cache");
    const tar = execFileSync("gzip", ["-dc", file]);
    expect(digest).toBe(sha256(readFileSync(file)));
    expect(diffId).toBe(sha256(tar));
    expect([size, unpacked]).toEqual([readFileSync(file).length, tar.length]);
  });
});

describe("writeArchive()", () => {
  let image: Image;
  beforeEach(async () => {
    const run = runConfig({ version: "1.2.3", description: "a test", license: "Apache-2.0" });
    const layers = [await pack(tree("lower"), "cache"), await pack(tree("upper"), "cache")];
    image = { name: "localhost/millrace:1.2.3", architecture: "arm64", run, layers, created: 1_700_000_000 };
  });

  /** Its files by name. */
  async function written(name: string): Promise<{ digest: string; bytes: Buffer; read: (file: string) => Buffer }> {
    const archive = join(work, name);
    const digest = await writeArchive(image, archive);
    const read = (file: string): Buffer => execFileSync("tar", ["-xOf", archive, file]);
    return { digest, bytes: readFileSync(archive), read };
  }

  it("writes the same archive twice", async () => {
    const [one, other] = [await written("one.tar"), await written("other.tar")];
    expect(other.digest).toBe(one.digest);
    expect(sha256(other.bytes)).toBe(sha256(one.bytes));
  });

  it("is an OCI layout whose blobs are what their names say", async () => {
    const { digest, read } = await written("image.tar");
    expect(parsed(read("oci-layout"))).toEqual({ imageLayoutVersion: "1.0.0" });
    const index = parsed(read("index.json")) as Index;
    expect(index.manifests).toEqual([
      {
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        digest,
        size: read(blob(digest)).length,
        platform: { architecture: "arm64", os: "linux" },
        annotations: {
          "io.containerd.image.name": "localhost/millrace:1.2.3",
          "org.opencontainers.image.ref.name": "1.2.3",
        },
      },
    ]);
    const manifest = parsed(read(blob(digest))) as Manifest;
    for (const { digest, size } of [manifest.config, ...manifest.layers]) {
      expect(sha256(read(blob(digest)))).toBe(digest);
      expect(read(blob(digest)).length).toBe(size);
    }
    expect(manifest.layers.map(({ digest }) => digest)).toEqual(image.layers.map(({ digest }) => digest));
  });

  it("says in its configuration how it is run, and nothing of the time it was built at", async () => {
    const { digest, read } = await written("image.tar");
    const { config } = parsed(read(blob(digest))) as Manifest;
    expect(parsed(read(blob(config.digest)))).toMatchObject({
      architecture: "arm64",
      os: "linux",
      created: "2023-11-14T22:13:20Z",
      config: {
        Entrypoint: ["/usr/local/bin/millrace"],
        User: "0:0",
        Labels: { "org.opencontainers.image.version": "1.2.3", "org.opencontainers.image.licenses": "Apache-2.0" },
      },
      rootfs: { type: "layers", diff_ids: image.layers.map(({ diffId }) => diffId) },
    });
  });

  it("is what `docker load` of before 25 reads, too", async () => {
    const { digest, read } = await written("image.tar");
    const { config } = parsed(read(blob(digest))) as Manifest;
    expect(parsed(read("manifest.json"))).toEqual([
      {
        Config: blob(config.digest),
        RepoTags: ["localhost/millrace:1.2.3"],
        Layers: image.layers.map((layer) => blob(layer.digest)),
      },
    ]);
  });
});

interface Reference {
  readonly digest: string;
  readonly size: number;
}

interface Index {
  readonly manifests: readonly Reference[];
}

interface Manifest {
  readonly config: Reference;
  readonly layers: readonly Reference[];
}

function parsed(bytes: Buffer): unknown {
  return JSON.parse(bytes.toString());
}

function sha256(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function blob(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}
