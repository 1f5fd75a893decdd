// Which BPF objects there are, where they lie, and which of their enums user space shares.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../lib/errors.ts";

export const OBJECTS = ["tc", "xdp", "sock"] as const;
/** "tc_conntrack": "tc" for kernels whose programs may ask conntrack. */
export type ObjectName = (typeof OBJECTS)[number] | "tc_conntrack";

export const SHARED_ENUMS: readonly string[] = [
  "hook",
  "verdict",
  "frontend_kind",
  "window",
  "empty_window",
  "backend_state",
  "flow_path",
  "flow_state",
  "address_role",
  "device_flag",
  "next_hop_flag",
  "sockets_mode",
  "peer_kind",
  "near_flag",
  "range_kind",
  "setting_flag",
  "row_flag",
  "client_kind",
  "backend_word",
  "liveness_limit",
  "liveness_kind",
  "liveness_flag",
];

/** Path of a compiled object: beside the bundle, or in the source tree's build directory. */
export function objectPath(name: ObjectName): string {
  const here = import.meta.dirname;
  const candidates = [join(here, "bpf"), join(here, "../bpf"), join(here, "../../build/bpf")];
  for (const directory of candidates) {
    const path = join(directory, `${name}.bpf.o`);
    if (existsSync(path)) return path;
  }
  throw new Failure(
    "machine",
    `${name}.bpf.o`,
    `could not find ${name}.bpf.o beside the program: run 'make build' first`,
  );
}
