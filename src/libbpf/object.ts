// An ELF object with programs and maps: configured by name, then loaded once. Owns everything it hands out.
import { Failure, VerifierError } from "../lib/errors.ts";
import { type Btf, parseBtf } from "./btf.ts";
import { kernelError } from "./errno.ts";
import { BpfMap } from "./map.ts";
import {
  addressOf,
  detach,
  lastErrno,
  memoryAt,
  native,
  type Pointer,
  typeName,
  waited,
  withMessages,
} from "./native.ts";
import { BpfProgram } from "./program.ts";

export type ReadOnlyValue = number | bigint | boolean | Uint8Array;

export interface ObjectLoadOptions {
  /** Is told what the verifier said of each program that was loaded. `level`: as of BPF_PROG_LOAD; 4 is its statistics alone. */
  readonly log?: { readonly level: number; tell(program: string, text: string): void };
}

/** Size of one program's verifier log: what kernels before 5.2 take at most. Only what the kernel writes becomes memory. */
const LOG_SIZE = 0xffffff;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x4022;
const SUMMARY_LINES = 8;
const STATISTICS = /^(processed \d+ insns|verification time|stack depth|func#\d+ @\d+|max_states_per_insn)/;

/**
 * Opens an object file; nothing reaches the kernel before load(), and no privilege is needed. The caller closes it.
 * Throws Failure "not_found" or "invalid_object".
 */
export function openObject(path: string, options: { readonly name?: string } = {}): BpfObject {
  const calls = native();
  const open = new Uint8Array(80);
  const view = new DataView(open.buffer);
  view.setBigUint64(0, 80n, true);
  const name = options.name === undefined ? undefined : Buffer.from(`${options.name}\0`);
  if (name !== undefined) view.setBigUint64(8, addressOf(name), true);
  const handle = withMessages((messages) => {
    const found = calls.objectOpenFile(path, open);
    const errno = lastErrno();
    if (found !== null) return found;
    const code = errno === 2 ? "not_found" : "invalid_object";
    const cause = kernelError("open", path, errno, messages.join("; "));
    throw new Failure(code, path, cause.message, { cause });
  });
  return new BpfObject(handle, options.name ?? path);
}

export class BpfObject implements Disposable {
  readonly name: string;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();
  #handle: Pointer | undefined;
  #loaded = false;
  #btf: Btf | undefined;

  /** Takes the libbpf object over. */
  constructor(handle: Pointer, name: string) {
    this.#handle = handle;
    this.name = name;
  }

  #open(): Pointer {
    if (this.#handle === undefined) {
      throw new Failure("internal", this.name, `Cannot use the object '${this.name}': it is closed`);
    }
    return this.#handle;
  }

  #unloaded(verb: string): Pointer {
    const handle = this.#open();
    if (this.#loaded) throw new Failure("internal", this.name, `Cannot ${verb} of ${this.name}: it is loaded already`);
    return handle;
  }

  #findMap(name: string): Pointer {
    const map = native().objectFindMap(this.#open(), name);
    if (map === null) throw new Failure("not_found", name, `could not find the map ${name} in ${this.name}`);
    return map;
  }

  #findProgram(name: string): Pointer {
    const program = native().objectFindProgram(this.#open(), name);
    if (program === null) throw new Failure("not_found", name, `could not find the program ${name} in ${this.name}`);
    return program;
  }

  /** Names of the maps in the object's order, without those that hold global variables. */
  maps(): string[] {
    const names: string[] = [];
    const handle = this.#open();
    for (let at = native().objectNextMap(handle, null); at !== null; at = native().objectNextMap(handle, at)) {
      if (!native().mapIsInternal(at)) names.push(native().mapName(at));
    }
    return names;
  }

  /** Names of the programs in the object's order. */
  programs(): string[] {
    return this.#programHandles().map((program) => native().programName(program));
  }

  #programHandles(): Pointer[] {
    const found: Pointer[] = [];
    const handle = this.#open();
    for (let at = native().objectNextProgram(handle, null); at !== null; at = native().objectNextProgram(handle, at)) {
      found.push(at);
    }
    return found;
  }

  /** The object's type information, with the places of variables. Throws Failure "invalid_object" when it was built without -g. */
  btf(): Btf {
    if (this.#btf === undefined) {
      const btf = native().objectBtf(this.#open());
      const size = new Uint32Array(1);
      const raw = btf === null ? null : native().btfRawData(btf, size);
      if (raw === null) {
        throw new Failure(
          "invalid_object",
          this.name,
          `could not read the BTF of ${this.name}: it has none, build it with -g`,
        );
      }
      const memory = memoryAt(raw, size[0] as number);
      this.#btf = parseBtf(new Uint8Array(memory).slice());
      detach(memory);
    }
    return this.#btf;
  }

  /**
   * Sets `const volatile` variables by name, before load(). A number must fit the variable; bytes must be exactly as long.
   * Only the variables named change. Throws RangeError, or Failure "not_found" for a variable that isn't there.
   */
  setReadOnly(values: Readonly<Record<string, ReadOnlyValue>>): void {
    this.#unloaded("set read-only data");
    const section = this.btf().datasec(".rodata");
    const size = new BigUint64Array(1);
    const map = native().objectFindMap(this.#open(), ".rodata");
    const pointer = map === null ? null : native().mapInitialValue(map, size);
    for (const [name, value] of Object.entries(values)) {
      const variable = section?.variables.find((candidate) => candidate.name === name);
      if (variable === undefined || pointer === null || variable.offset + variable.size > Number(size[0])) {
        throw new Failure("not_found", name, `could not find the read-only variable ${name} in ${this.name}`);
      }
      const bytes = encodeReadOnly(name, value, variable.size);
      const memory = memoryAt(pointer + BigInt(variable.offset), variable.size);
      new Uint8Array(memory).set(bytes);
      detach(memory);
    }
  }

  /** Sets the size of a map, before load(). */
  setMaxEntries(map: string, entries: number): void {
    this.#unloaded("set the size of a map");
    if (!Number.isInteger(entries) || entries < 1 || entries > 0xffffffff) {
      throw new RangeError(`Cannot size map ${map} as 'entries' must be a positive whole number: it is ${entries}`);
    }
    const result = native().mapSetMaxEntries(this.#findMap(map), entries);
    if (result < 0) throw kernelError("set the size of", map, -result);
  }

  /** Whether load() makes this map; a program that uses a map that was not made is refused. */
  setAutocreate(map: string, autocreate: boolean): void {
    this.#unloaded("choose maps");
    const result = native().mapSetAutocreate(this.#findMap(map), autocreate);
    if (result < 0) throw kernelError("choose the map", map, -result);
  }

  /** Whether load() loads this program. */
  setAutoload(program: string, autoload: boolean): void {
    this.#unloaded("choose programs");
    const result = native().programSetAutoload(this.#findProgram(program), autoload);
    if (result < 0) throw kernelError("choose the program", program, -result);
  }

  /** Whether load() loads, or loaded, this program; false for a name that the object does not have. */
  loads(program: string): boolean {
    const found = native().objectFindProgram(this.#open(), program);
    return found !== null && native().programAutoload(found);
  }

  /**
   * Lets the object use an existing map in place of making its own, before load(). The map stays the caller's. Throws
   * Failure "conflict" when type, key or value size differ from what the object was built for.
   */
  reuseMap(map: string, existing: BpfMap | number): void {
    this.#unloaded("reuse a map");
    const handle = this.#findMap(map);
    const found = typeof existing === "number" ? new BpfMap(existing, { ownsFd: false }) : existing;
    const wanted = {
      type: typeName("map", native().mapType(handle)),
      keySize: native().mapKeySize(handle),
      valueSize: native().mapValueSize(handle),
    };
    for (const field of ["type", "keySize", "valueSize"] as const) {
      if (wanted[field] !== found[field]) {
        throw new Failure(
          "conflict",
          map,
          `could not reuse the map ${map}: its ${field} is ${found[field]}, ${this.name} wants ${wanted[field]}`,
        );
      }
    }
    const result = native().mapReuseFd(handle, found.fd);
    if (result < 0) throw kernelError("reuse the map", map, -result);
  }

  /**
   * Makes the maps and loads the programs. Throws VerifierError with the last useful lines when a program is refused, else
   * KernelError. After a failure the object can only be closed.
   */
  load({ log }: ObjectLoadOptions = {}): void {
    using logs = this.#prepareLoad(log?.level ?? 0);
    withMessages((messages) => {
      const result = native().objectLoad(this.#open());
      if (result < 0) throw logs.failure(result, messages.join("; "));
    });
    if (log !== undefined) logs.tell(log.tell);
  }

  /**
   * load() in a thread of its own, so that the kernel's verifier does not block this one; several objects may load at once.
   * What libbpf has to say beside the kernel's error is not caught. The object must not be used before it ends.
   */
  async loadAsync(): Promise<void> {
    using logs = this.#prepareLoad(0);
    const result = await waited((done) => native().objectLoad.async(this.#open(), done));
    if (result < 0) throw logs.failure(result, "");
  }

  /** Gives every program that will be loaded a log of its own. The caller disposes of them after the load. */
  #prepareLoad(logLevel: number): Disposable & {
    failure(result: number, messages: string): Error;
    tell(each: (program: string, text: string) => void): void;
  } {
    this.#unloaded("load the programs");
    this.#loaded = true;
    const calls = native();
    const logs: { readonly program: Pointer; readonly log: Pointer }[] = [];
    const dispose = (): void => {
      for (const { program, log } of logs.splice(0)) {
        calls.programSetLogBuf(program, null, 0);
        calls.munmap(log, LOG_SIZE + 1);
      }
    };
    for (const program of this.#programHandles()) {
      if (!calls.programAutoload(program)) continue;
      const log = calls.mmap(null, LOG_SIZE + 1, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0);
      const errno = lastErrno();
      if (BigInt.asIntN(64, BigInt(log)) === -1n) {
        dispose();
        throw kernelError("make room for the log of", this.name, errno);
      }
      logs.push({ program, log });
      calls.programSetLogBuf(program, log, LOG_SIZE);
      calls.programSetLogLevel(program, logLevel);
    }
    return {
      tell(each) {
        for (const { program, log } of logs) each(calls.programName(program), readText(log, LOG_SIZE));
      },
      failure: (result, messages) => {
        for (const { program, log } of logs) {
          const text = readText(log, LOG_SIZE);
          if (text === "") continue;
          return new VerifierError(`the program ${calls.programName(program)}`, summariseLog(text), text);
        }
        return kernelError("load", this.name, -result, messages);
      },
      [Symbol.dispose]: dispose,
    };
  }

  /** A map by name, after load(); ".bss" and ".data" too. It belongs to the object and ends with it. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined || map.isClosed) {
      const fd = native().mapFd(this.#findMap(name));
      if (fd < 0)
        throw new Failure("internal", name, `Cannot use map ${name} of ${this.name}: the object is not loaded`);
      map = new BpfMap(fd, { name, ownsFd: false });
      this.#maps.set(name, map);
    }
    return map;
  }

  /** A program by name, after load(). It belongs to the object and ends with it. */
  program(name: string): BpfProgram {
    let program = this.#programs.get(name);
    if (program === undefined || program.isClosed) {
      const handle = this.#findProgram(name);
      const fd = native().programFd(handle);
      if (fd < 0) {
        throw new Failure("internal", name, `Cannot use program ${name} of ${this.name}: it is not loaded`);
      }
      const expectedAttachType = native().programExpectedAttachType(handle);
      program = new BpfProgram(fd, { name, ownsFd: false, expectedAttachType });
      this.#programs.set(name, program);
    }
    return program;
  }

  /** Ends the object and every map and program it handed out; what is pinned, attached or duplicated lives on. */
  close(): void {
    if (this.#handle === undefined) return;
    for (const map of this.#maps.values()) map.close();
    for (const program of this.#programs.values()) program.close();
    native().objectClose(this.#handle);
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function encodeReadOnly(name: string, value: ReadOnlyValue, size: number): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length !== size) {
      throw new RangeError(`Cannot set ${name} as 'value' must be ${size} bytes long: it is ${value.length}`);
    }
    return value;
  }
  const number = typeof value === "bigint" ? value : typeof value === "boolean" ? BigInt(value) : toBigInt(name, value);
  if (size > 8 || (BigInt.asUintN(size * 8, number) !== number && BigInt.asIntN(size * 8, number) !== number)) {
    throw new RangeError(`Cannot set ${name} as 'value' must fit ${size} bytes: it is ${value}`);
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, number), true);
  return bytes.subarray(0, size);
}

function toBigInt(name: string, value: number): bigint {
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(`Cannot set ${name} as 'value' must be a whole number: it is ${value}`);
  }
  return BigInt(value);
}

function readText(pointer: Pointer, limit: number): string {
  const memory = memoryAt(pointer, limit);
  const bytes = Buffer.from(memory);
  const end = bytes.indexOf(0);
  const text = bytes.toString("utf8", 0, end < 0 ? limit : end);
  detach(memory);
  return text;
}

/** The last lines of a verifier log that say something, and how many were left out before them. */
export function summariseLog(log: string): string {
  const lines = log.split("\n").map((line) => line.trimEnd());
  const useful = lines.filter((line) => line !== "" && !STATISTICS.test(line));
  const kept = useful.slice(-SUMMARY_LINES);
  const omitted = useful.length - kept.length;
  return omitted === 0 ? kept.join("\n") : `(${omitted} lines omitted)\n${kept.join("\n")}`;
}
