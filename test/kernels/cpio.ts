// An initramfs's archive (cpio's "newc" format), from names and bytes. Pure.

export interface CpioEntry {
  /** Without a slash in front; parents come before what is in them. */
  readonly path: string;
  /** undefined for a directory. */
  readonly content?: Uint8Array;
  /** What a symbolic link points to, in place of content. */
  readonly link?: string;
}

const DIRECTORY = 0o040755;
const EXECUTABLE = 0o100755;
const LINK = 0o120777;

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** One entry: a header of 8-digit hexadecimal fields, the name, the content, each padded to four bytes. */
function encode(path: string, mode: number, content: Uint8Array, inode: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  // inode, mode, uid, gid, links, time, size, device (2), represented device (2), length of the name, checksum
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return Buffer.concat([padded(Buffer.concat([header, name])), padded(Buffer.from(content))]);
}

export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map(({ path, content, link }, at) => {
    if (link !== undefined) return encode(path, LINK, Buffer.from(link), at + 1);
    return encode(path, content === undefined ? DIRECTORY : EXECUTABLE, content ?? new Uint8Array(0), at + 1);
  });
  return Buffer.concat([...parts, encode("TRAILER!!!", 0, new Uint8Array(0), 0)]);
}
