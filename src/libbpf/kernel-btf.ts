// The type information that the kernel keeps: of a map, what whoever made it said of its keys and values; of itself and of its modules,
// where the functions are that programs may call.
import { type Btf, parseBtf } from "./btf.ts";
import { Command } from "./constants.ts";
import { closeDescriptor, fillInfo, infoOf } from "./descriptor.ts";
import { ENOENT, kernelError } from "./errno.ts";
import type { BpfMap } from "./map.ts";
import { addressOf, bpfCall, native } from "./native.ts";

const MAP_INFO_BYTES = 88;
const BTF_ID = 64;
const BTF_INFO_BYTES = 16;
const BTF_SIZE = 8;
const NAMED_BTF_INFO_BYTES = 32;
const BTF_NAME = 16;
const BTF_NAME_LENGTH = 24;
const MODULE_NAME_MAX = 64;
const KIND_FUNCTION = 12;

/** undefined: it was made without. */
export function readMapBtf(map: BpfMap): Btf | undefined {
  const id = infoOf(map.fd, MAP_INFO_BYTES, map.name).getUint32(BTF_ID, true);
  if (id === 0) return undefined;
  const fd = openById(id);
  if (fd === -ENOENT) return undefined;
  if (fd < 0) throw kernelError("open the type information of", map.name, -fd);
  try {
    return parseBtf(bytesOf(fd, map.name));
  } finally {
    closeDescriptor(fd);
  }
}

/** Its descriptor, which the caller closes, or -errno. */
function openById(id: number): number {
  const attributes = new Uint8Array(16);
  new DataView(attributes.buffer).setUint32(0, id, true);
  return bpfCall(Command.btfGetFdById, attributes);
}

/** Functions of the kernel's, as a program names them in a call. */
export interface KernelFunctions extends Disposable {
  readonly ids: readonly number[];
  /** Descriptor of the module's type information; undefined when they are built in. */
  readonly module: number | undefined;
}

/** Finds functions that are built in or come with `module`. undefined: the kernel has not all of them, or keeps no type information. */
export function findKernelFunctions(names: readonly string[], module: string): KernelFunctions | undefined {
  const calls = native();
  const kernel = calls.btfLoadVmlinux();
  if (kernel === null) return undefined;
  const idsIn = (btf: bigint): number[] | undefined => {
    const ids = names.map((name) => calls.btfFindByNameKind(btf, name, KIND_FUNCTION));
    return ids.some((id) => id <= 0) ? undefined : ids;
  };
  try {
    const builtIn = idsIn(kernel);
    if (builtIn !== undefined) return { ids: builtIn, module: undefined, [Symbol.dispose]() {} };
    const split = calls.btfLoadModule(module, kernel);
    if (split === null) return undefined;
    const ids = idsIn(split);
    calls.btfFree(split);
    const fd = ids === undefined ? undefined : openModuleBtf(module);
    return ids === undefined || fd === undefined
      ? undefined
      : { ids, module: fd, [Symbol.dispose]: () => closeDescriptor(fd) };
  } finally {
    calls.btfFree(kernel);
  }
}

function openModuleBtf(module: string): number | undefined {
  const attributes = new Uint8Array(16);
  const next = new DataView(attributes.buffer);
  while (bpfCall(Command.btfGetNextId, attributes) >= 0) {
    const id = next.getUint32(4, true);
    next.setUint32(0, id, true);
    const fd = openById(id);
    if (fd < 0) continue;
    if (nameOf(fd) === module) return fd;
    closeDescriptor(fd);
  }
  return undefined;
}

function nameOf(fd: number): string {
  const name = Buffer.alloc(MODULE_NAME_MAX);
  const info = new Uint8Array(NAMED_BTF_INFO_BYTES);
  const view = new DataView(info.buffer);
  view.setBigUint64(BTF_NAME, addressOf(name), true);
  view.setUint32(BTF_NAME_LENGTH, name.length, true);
  fillInfo(fd, info, "type information");
  return name.toString("latin1", 0, name.indexOf(0));
}

function bytesOf(fd: number, subject: string): Uint8Array {
  const bytes = new Uint8Array(infoOf(fd, BTF_INFO_BYTES, subject).getUint32(BTF_SIZE, true));
  const info = new Uint8Array(BTF_INFO_BYTES);
  const view = new DataView(info.buffer);
  view.setBigUint64(0, addressOf(bytes), true);
  view.setUint32(BTF_SIZE, bytes.length, true);
  fillInfo(fd, info, subject);
  return bytes;
}
