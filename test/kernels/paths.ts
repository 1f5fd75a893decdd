// Where the things of `make kernels` are. Names only: it makes and removes nothing.
import { join, resolve } from "node:path";

export const REPOSITORY = resolve(import.meta.dirname, "../..");
/** Kernels and results are kept here. Ignored by git, and `make clean` leaves it. */
export const CACHE = join(REPOSITORY, ".cache/kernels");
export const RESULTS = join(CACHE, "results");
export const OBJECTS_DIRECTORY = join(REPOSITORY, "build/bpf");
export const GUEST_SCRIPTS = join(REPOSITORY, "test/kernels/guest");
/** What docs/kernels.md is made of: the last results of each kernel, committed. */
export const MEASURED = join(REPOSITORY, "test/kernels/measured.json");
/** For .ci/run, as vitest writes it. */
export const CI_RESULTS = join(REPOSITORY, "build/results-kernels.json");

export interface KernelPaths {
  readonly debs: string;
  /** Boot files and modules, as the packages have them. */
  readonly root: string;
  readonly initramfs: string;
  /** Names the release whose files are complete. */
  readonly release: string;
  /** Shared with the guest, as /job there. */
  readonly job: string;
}

export function kernelPaths(name: string): KernelPaths {
  const directory = join(CACHE, name);
  return {
    debs: join(directory, "debs"),
    root: join(directory, "root"),
    initramfs: join(directory, "initramfs.gz"),
    release: join(directory, "release"),
    job: join(directory, "job"),
  };
}
