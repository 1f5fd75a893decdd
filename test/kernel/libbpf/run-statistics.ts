// How often programs ran and how long, as the kernel counts it for all programs while somebody asks for it. Counting costs
// each run two readings of the clock, of which about one is in its time.
import { closeDescriptor, infoOf } from "../../../src/libbpf/descriptor.ts";
import { kernelError } from "../../../src/libbpf/errno.ts";
import { bpfCall } from "../../../src/libbpf/native.ts";
import { BpfProgram } from "../../../src/libbpf/program.ts";

export interface RunStatistics {
  readonly runs: number;
  readonly ns: number;
}

/** struct bpf_prog_info up to and with run_cnt. */
const INFO_BYTES = 208;
const RUN_TIME_NS = 192;
const RUN_COUNT = 200;
const STATS_RUN_TIME = 0;
/** Commands of bpf(2). */
const PROG_GET_FD_BY_ID = 13;
const ENABLE_STATS = 32;

/**
 * Lets the kernel count (BPF_ENABLE_STATS, Linux 5.8; the same as `kernel.bpf_stats_enabled`) until it is disposed of, or
 * this process ends. Throws KernelError.
 */
export function countRuns(): Disposable {
  const attributes = new Uint8Array(4);
  new DataView(attributes.buffer).setUint32(0, STATS_RUN_TIME, true);
  const fd = bpfCall(ENABLE_STATS, attributes);
  if (fd < 0) throw kernelError("count the runs of", "programs", -fd);
  let isOpen = true;
  return {
    [Symbol.dispose]() {
      if (isOpen) closeDescriptor(fd);
      isOpen = false;
    },
  };
}

/** What was counted of a program since it was loaded. Throws KernelError. */
export function runStatistics(program: BpfProgram): RunStatistics {
  const info = infoOf(program.fd, INFO_BYTES, program.name);
  return { runs: Number(info.getBigUint64(RUN_COUNT, true)), ns: Number(info.getBigUint64(RUN_TIME_NS, true)) };
}

/** The program with this id, which something else holds; the caller closes it. Throws KernelError, ENOENT when it is gone. */
export function openProgram(id: number): BpfProgram {
  const attributes = new Uint8Array(12);
  new DataView(attributes.buffer).setUint32(0, id, true);
  const fd = bpfCall(PROG_GET_FD_BY_ID, attributes);
  if (fd < 0) throw kernelError("open the program", String(id), -fd);
  return new BpfProgram(fd, { ownsFd: true });
}
