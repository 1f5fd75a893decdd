// One loaded BPF program by its descriptor: what it is, test runs, pins. Attaching is link.ts and clsact.ts.
import { Failure } from "../lib/errors.ts";
import { Command } from "./constants.ts";
import { closeDescriptor, duplicateDescriptor, fixedText, infoOf, openPinned, pinDescriptor } from "./descriptor.ts";
import { EINTR, ENOENT, kernelError } from "./errno.ts";
import { addressOf, bpfCall, typeName } from "./native.ts";

export interface TestRun {
  /** The packet; programs of cgroup hooks take none. */
  readonly data?: Uint8Array;
  /** Room for the packet afterwards. @default data.length + 256, none for live frames */
  readonly dataSizeOut?: number;
  /** The program's context struct (__sk_buff, xdp_md), as the kernel takes it; it comes back changed. */
  readonly context?: Uint8Array;
  /** @default 1 */
  readonly repeat?: number;
  readonly cpu?: number;
  /** BPF_F_TEST_RUN_ON_CPU 1, BPF_F_TEST_XDP_LIVE_FRAMES 2. */
  readonly flags?: number;
  readonly batchSize?: number;
}

export interface TestResult {
  /** Signed, so that TC_ACT_UNSPEC and errnos read as the program wrote them. */
  readonly retval: number;
  /** Average of one repetition. */
  readonly durationNs: number;
  readonly data: Uint8Array;
  readonly context: Uint8Array;
}

const LIVE_FRAMES = 2;
const HEADROOM = 256;
const MOST_TRIES = 10;

/** A program whose descriptor is open. Made by openPinnedProgram, or owned by a BpfObject. */
export class BpfProgram implements Disposable {
  readonly name: string;
  readonly type: string;
  readonly id: number;
  /** Hash of the instructions, 16 hex digits. */
  readonly tag: string;
  /** The kernel's number of the hook it was built for; undefined when opened from a pin, where the kernel doesn't tell. */
  readonly expectedAttachType: number | undefined;
  readonly #ownsFd: boolean;
  #fd: number;

  /** Takes `fd` over when `ownsFd`; else someone else closes it, and closes this first. */
  constructor(
    fd: number,
    options: { readonly name?: string; readonly ownsFd: boolean; readonly expectedAttachType?: number },
  ) {
    const info = infoOf(fd, 88, options.name ?? "the program");
    this.#fd = fd;
    this.#ownsFd = options.ownsFd;
    this.type = typeName("program", info.getUint32(0, true));
    this.id = info.getUint32(4, true);
    this.tag = Buffer.from(info.buffer, info.byteOffset + 8, 8).toString("hex");
    this.name = options.name ?? fixedText(info, 64, 16);
    this.expectedAttachType = options.expectedAttachType;
  }

  get fd(): number {
    if (this.#fd < 0) throw new Failure("internal", this.name, `Cannot use the program '${this.name}': it is closed`);
    return this.#fd;
  }

  get isClosed(): boolean {
    return this.#fd < 0;
  }

  /** Runs the program in the kernel on a made-up packet; once more from the start when a signal interrupts repetitions. Throws KernelError: ENOTSUPP for types without test run, EINVAL for a context field that cannot be set. */
  testRun(run: TestRun = {}): TestResult {
    const flags = run.flags ?? 0;
    const repeat = run.repeat ?? 1;
    if (!Number.isInteger(repeat) || repeat < 1) {
      throw new RangeError(`Cannot run ${this.name} as 'repeat' must be a positive whole number: it is ${repeat}`);
    }
    const live = (flags & LIVE_FRAMES) !== 0;
    const data = run.data ?? new Uint8Array(0);
    const dataOut = new Uint8Array(run.dataSizeOut ?? (live || data.length === 0 ? 0 : data.length + HEADROOM));
    const context = run.context ?? new Uint8Array(0);
    const contextOut = new Uint8Array(live ? 0 : context.length);
    const attributes = new Uint8Array(80);
    const view = new DataView(attributes.buffer);
    view.setUint32(0, this.fd, true);
    view.setUint32(8, data.length, true);
    view.setUint32(12, dataOut.length, true);
    if (data.length > 0) view.setBigUint64(16, addressOf(data), true);
    if (dataOut.length > 0) view.setBigUint64(24, addressOf(dataOut), true);
    view.setUint32(32, repeat, true);
    view.setUint32(40, context.length, true);
    view.setUint32(44, contextOut.length, true);
    if (context.length > 0) view.setBigUint64(48, addressOf(context), true);
    if (contextOut.length > 0) view.setBigUint64(56, addressOf(contextOut), true);
    view.setUint32(64, flags, true);
    view.setUint32(68, run.cpu ?? 0, true);
    view.setUint32(72, run.batchSize ?? 0, true);
    let result: number;
    // The kernel breaks repeated runs off for a signal, which is handled on the way back from the call.
    let tries = 0;
    do result = bpfCall(Command.progTestRun, attributes);
    while (result === -EINTR && ++tries < MOST_TRIES);
    if (result < 0) throw kernelError("test-run the program", this.name, -result);
    return {
      retval: view.getInt32(4, true),
      durationNs: view.getUint32(36, true),
      data: dataOut.subarray(0, Math.min(view.getUint32(12, true), dataOut.length)),
      context: contextOut.subarray(0, Math.min(view.getUint32(44, true), contextOut.length)),
    };
  }

  pin(path: string): void {
    pinDescriptor(this.fd, this.name, path);
  }

  /** Another BpfProgram on the same kernel program, which the caller closes; for instance to outlive the object. */
  duplicate(): BpfProgram {
    return adoptProgram(duplicateDescriptor(this.fd, this.name), {
      name: this.name,
      ...(this.expectedAttachType === undefined ? {} : { expectedAttachType: this.expectedAttachType }),
    });
  }

  /** The kernel's program lives on while pinned or attached. */
  close(): void {
    if (this.#fd < 0) return;
    if (this.#ownsFd) closeDescriptor(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function adoptProgram(
  fd: number,
  options: { readonly name?: string; readonly expectedAttachType?: number },
): BpfProgram {
  try {
    return new BpfProgram(fd, { ...options, ownsFd: true });
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** The program that is pinned at `path`; the caller closes it. `name` replaces the kernel's, which is cut after 15 bytes. */
export function openPinnedProgram(path: string, name?: string): BpfProgram {
  return adoptProgram(openPinned(path, "program"), name === undefined ? {} : { name });
}

/** What the program of this id is called, at most 15 bytes; undefined when it is gone. Throws KernelError. */
export function programName(id: number): string | undefined {
  const attributes = new Uint8Array(16);
  new DataView(attributes.buffer).setUint32(0, id, true);
  const fd = bpfCall(Command.progGetFdById, attributes);
  if (fd === -ENOENT) return undefined;
  if (fd < 0) throw kernelError("look at", `program ${id}`, -fd);
  try {
    return fixedText(infoOf(fd, 88, `program ${id}`), 64, 16);
  } finally {
    closeDescriptor(fd);
  }
}
