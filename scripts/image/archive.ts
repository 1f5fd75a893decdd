// One archive that is two things: an OCI layout (`index.json`; image-spec 1.0), which containerd, podman and newer Docker read, and what
// `docker save` writes (`manifest.json`), which is all that Docker before 25 reads. Both point at the same blobs.
import { createHash } from "node:crypto";
import {
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { type Layer, SAME_BYTES } from "./layer.ts";
import type { Architecture } from "./recipe.ts";

export interface Image {
  /** With registry and tag: `localhost/millrace:0.1.0`. */
  readonly name: string;
  readonly architecture: Architecture;
  /** The configuration's `config`. */
  readonly run: object;
  /** Lowest first. */
  readonly layers: readonly Layer[];
  /** When it was made, in seconds since 1970: no clock is read. */
  readonly created: number;
}

interface Blob {
  readonly digest: string;
  readonly size: number;
}

const OCI = "application/vnd.oci.image";

/** Writes the archive. Returns the digest of the image's manifest, which is what the image is known by. */
export async function writeArchive(image: Image, target: string): Promise<string> {
  mkdirSync(dirname(target), { recursive: true });
  const work = mkdtempSync(`${target}.part-`);
  const blobs = "blobs/sha256";
  try {
    mkdirSync(join(work, blobs), { recursive: true });
    const keep = (value: object): Blob => {
      const bytes = Buffer.from(JSON.stringify(value));
      const hash = createHash("sha256").update(bytes).digest("hex");
      writeFileSync(join(work, blobs, hash), bytes);
      return { digest: `sha256:${hash}`, size: bytes.length };
    };
    for (const { file, digest } of image.layers) {
      copyFileSync(file, join(work, blobPath(digest)), constants.COPYFILE_FICLONE);
    }
    const config = keep(configOf(image));
    const manifest = keep({
      schemaVersion: 2,
      mediaType: `${OCI}.manifest.v1+json`,
      config: { mediaType: `${OCI}.config.v1+json`, ...config },
      layers: image.layers.map(({ digest, size }) => ({ mediaType: `${OCI}.layer.v1.tar+gzip`, digest, size })),
    });
    const write = (name: string, value: object): void => writeFileSync(join(work, name), JSON.stringify(value));
    write("oci-layout", { imageLayoutVersion: "1.0.0" });
    write("index.json", indexOf(image, manifest));
    write("manifest.json", [
      {
        Config: blobPath(config.digest),
        RepoTags: [image.name],
        Layers: image.layers.map(({ digest }) => blobPath(digest)),
      },
    ]);
    await runChecked("tar", [
      "-C",
      work,
      ...SAME_BYTES,
      "--mode=a=rX,u+w",
      "-cf",
      `${work}/whole`,
      ...readdirSync(work).sort(),
    ]);
    renameSync(`${work}/whole`, target);
    return manifest.digest;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function configOf({ architecture, run, layers, created }: Image): object {
  const time = new Date(created * 1000).toISOString().replace(".000Z", "Z");
  return {
    created: time,
    architecture,
    os: "linux",
    config: run,
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(({ title }) => ({ created: time, created_by: title })),
  };
}

function indexOf({ name, architecture }: Image, manifest: Blob): object {
  const tag = name.slice(name.lastIndexOf(":") + 1);
  return {
    schemaVersion: 2,
    mediaType: `${OCI}.index.v1+json`,
    manifests: [
      {
        mediaType: `${OCI}.manifest.v1+json`,
        ...manifest,
        platform: { architecture, os: "linux" },
        // containerd takes the first as the name, podman and skopeo the second.
        annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag },
      },
    ],
  };
}
