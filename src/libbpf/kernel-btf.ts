// The type information that the kernel keeps of a map: what whoever made it said of its keys and values.
import { type Btf, parseBtf } from "./btf.ts";
import { Command } from "./constants.ts";
import { closeDescriptor, fillInfo, infoOf } from "./descriptor.ts";
import { ENOENT, kernelError } from "./errno.ts";
import type { BpfMap } from "./map.ts";
import { addressOf, bpfCall } from "./native.ts";

const MAP_INFO_BYTES = 88;
const BTF_ID = 64;
const BTF_INFO_BYTES = 16;
const BTF_SIZE = 8;

/** undefined: it was made without. */
export function readMapBtf(map: BpfMap): Btf | undefined {
  const id = infoOf(map.fd, MAP_INFO_BYTES, map.name).getUint32(BTF_ID, true);
  if (id === 0) return undefined;
  const attributes = new Uint8Array(16);
  new DataView(attributes.buffer).setUint32(0, id, true);
  const fd = bpfCall(Command.btfGetFdById, attributes);
  if (fd === -ENOENT) return undefined;
  if (fd < 0) throw kernelError("open the type information of", map.name, -fd);
  try {
    return parseBtf(bytesOf(fd, map.name));
  } finally {
    closeDescriptor(fd);
  }
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
