// The functions of libbpf and libc as koffi calls, bound when first used. Knows shapes of calls, never their meaning;
// callers check sizes, because what is passed here is read by C.
import koffi, { type LibraryHandle, type TypeObject } from "koffi";
import { Failure } from "../lib/errors.ts";

/** An address in this process. koffi gives null for NULL. */
export type Pointer = bigint;
type Bytes = Uint8Array | Uint32Array | Int32Array | BigUint64Array;
/** A call that can also wait in a thread of libuv's; errno is not told then. The caller holds what it points to until it is done. */
type Waiting<Arguments extends readonly unknown[]> = ((...args: Arguments) => number) & {
  async: (...args: [...Arguments, done: (error: unknown, result: number) => void]) => void;
};

/** Page size of every machine that this project supports; a ring buffer's and a mapped array's unit. */
export const PAGE_SIZE = 4096;

function loadLibrary(name: string, fix: string): LibraryHandle {
  try {
    return koffi.load(name);
  } catch (cause) {
    throw new Failure("machine", name, `could not load ${name}: ${(cause as Error).message}${fix}`, { cause });
  }
}

function bind() {
  const libc = loadLibrary("libc.so.6", "");
  const bpf = loadLibrary("libbpf.so.1", "; install libbpf 1.1 or later (Debian: apt-get install libbpf1)");
  const call = <T>(library: LibraryHandle, definition: string): T => library.func(definition) as unknown as T;
  const c = <T>(definition: string): T => call<T>(libc, definition);
  const b = <T>(definition: string): T => call<T>(bpf, definition);
  type Handle = Pointer;

  b<(print: null) => unknown>("void *libbpf_set_print(void *print)")(null);

  return {
    // libc
    strerror: c<(errno: number) => string>("const char *strerror(int errno)"),
    mmap: c<(a: null, length: number, prot: number, flags: number, fd: number, offset: number) => Pointer>(
      "void *mmap(void *a, size_t length, int prot, int flags, int fd, int64_t offset)",
    ),
    munmap: c<(address: Pointer, length: number) => number>("int munmap(void *a, size_t length)"),
    close: c<(fd: number) => number>("int close(int fd)"),
    madvise: c<(address: Pointer, length: number, advice: number) => number>(
      "int madvise(void *address, size_t length, int advice)",
    ),
    mallocTrim: c<(keep: number) => number>("int malloc_trim(size_t keep)"),
    fcntl: c<(fd: number, command: number, argument: number) => number>(
      "int fcntl(int fd, int command, long argument)",
    ),
    poll: c<Waiting<[fds: Bytes, count: number, timeoutMs: number]>>(
      "int poll(void *fds, unsigned long count, int timeout)",
    ),
    flock: c<(fd: number, operation: number) => number>("int flock(int fd, int operation)"),
    mount: c<(source: string, target: string, type: string, flags: number, data: string) => number>(
      "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
    ),
    eventfd: c<(initial: number, flags: number) => number>("int eventfd(unsigned int initial, int flags)"),
    write: c<(fd: number, buffer: Bytes, length: number) => number>(
      "int64_t write(int fd, const void *buffer, size_t length)",
    ),
    socket: c<(family: number, type: number, protocol: number) => number>(
      "int socket(int family, int type, int protocol)",
    ),
    bind: c<(fd: number, address: Uint8Array, length: number) => number>(
      "int bind(int fd, const void *address, unsigned int length)",
    ),
    connect: c<(fd: number, address: Uint8Array, length: number) => number>(
      "int connect(int fd, const void *address, unsigned int length)",
    ),
    send: c<Waiting<[fd: number, buffer: Bytes, length: number, flags: number]>>(
      "int64_t send(int fd, const void *buffer, size_t length, int flags)",
    ),
    recv: c<Waiting<[fd: number, buffer: Bytes, length: number, flags: number]>>(
      "int64_t recv(int fd, void *buffer, size_t length, int flags)",
    ),
    setsockopt: c<(fd: number, level: number, name: number, value: Bytes, length: number) => number>(
      "int setsockopt(int fd, int level, int name, const void *value, unsigned int length)",
    ),
    getsockopt: c<(fd: number, level: number, name: number, value: Bytes, length: Bytes) => number>(
      "int getsockopt(int fd, int level, int name, void *value, void *length)",
    ),
    clockGettime: c<(clock: number, time: BigUint64Array) => number>("int clock_gettime(int clock, void *time)"),
    sysBpf: c<(number: number, command: number, attributes: Bytes, size: number) => number>(
      "long syscall(long number, int command, void *attributes, unsigned int size)",
    ),
    sysMembarrier: c<Waiting<[number: number, command: number, flags: number, cpu: number]>>(
      "long syscall(long number, int command, unsigned int flags, int cpu)",
    ),

    // libbpf: objects
    versionString: b<() => string>("const char *libbpf_version_string()"),
    setPrint: b<(print: Pointer | null) => unknown>("void *libbpf_set_print(void *print)"),
    vsnprintf: c<(buffer: Bytes, size: number, format: Pointer, list: Pointer) => number>(
      "int vsnprintf(void *buffer, size_t size, void *format, void *list)",
    ),
    objectOpenFile: b<(path: string, options: Bytes) => Handle | null>(
      "void *bpf_object__open_file(const char *path, const void *options)",
    ),
    objectLoad: b<Waiting<[object: Handle]>>("int bpf_object__load(void *object)"),
    objectClose: b<(object: Handle) => void>("void bpf_object__close(void *object)"),
    objectBtf: b<(object: Handle) => Handle | null>("void *bpf_object__btf(void *object)"),
    objectNextMap: b<(object: Handle, map: Handle | null) => Handle | null>(
      "void *bpf_object__next_map(void *object, void *map)",
    ),
    objectNextProgram: b<(object: Handle, program: Handle | null) => Handle | null>(
      "void *bpf_object__next_program(void *object, void *program)",
    ),
    objectFindMap: b<(object: Handle, name: string) => Handle | null>(
      "void *bpf_object__find_map_by_name(void *object, const char *name)",
    ),
    objectFindProgram: b<(object: Handle, name: string) => Handle | null>(
      "void *bpf_object__find_program_by_name(void *object, const char *name)",
    ),
    btfLoadVmlinux: b<() => Handle | null>("void *btf__load_vmlinux_btf(void)"),
    btfLoadModule: b<(module: string, base: Handle) => Handle | null>(
      "void *btf__load_module_btf(const char *module, void *base)",
    ),
    btfFindByNameKind: b<(btf: Handle, name: string, kind: number) => number>(
      "int btf__find_by_name_kind(void *btf, const char *name, uint32_t kind)",
    ),
    btfFree: b<(btf: Handle) => void>("void btf__free(void *btf)"),
    btfRawData: b<(btf: Handle, size: Uint32Array) => Pointer | null>("void *btf__raw_data(void *btf, void *size)"),
    mapFd: b<(map: Handle) => number>("int bpf_map__fd(void *map)"),
    mapName: b<(map: Handle) => string>("const char *bpf_map__name(void *map)"),
    mapIsInternal: b<(map: Handle) => boolean>("bool bpf_map__is_internal(void *map)"),
    mapType: b<(map: Handle) => number>("uint32_t bpf_map__type(void *map)"),
    mapKeySize: b<(map: Handle) => number>("uint32_t bpf_map__key_size(void *map)"),
    mapValueSize: b<(map: Handle) => number>("uint32_t bpf_map__value_size(void *map)"),
    mapSetMaxEntries: b<(map: Handle, entries: number) => number>(
      "int bpf_map__set_max_entries(void *map, uint32_t entries)",
    ),
    mapSetAutocreate: b<(map: Handle, autocreate: boolean) => number>(
      "int bpf_map__set_autocreate(void *map, bool autocreate)",
    ),
    mapReuseFd: b<(map: Handle, fd: number) => number>("int bpf_map__reuse_fd(void *map, int fd)"),
    mapInitialValue: b<(map: Handle, size: BigUint64Array) => Pointer | null>(
      "void *bpf_map__initial_value(void *map, void *size)",
    ),
    programFd: b<(program: Handle) => number>("int bpf_program__fd(void *program)"),
    programName: b<(program: Handle) => string>("const char *bpf_program__name(void *program)"),
    programAutoload: b<(program: Handle) => boolean>("bool bpf_program__autoload(void *program)"),
    programSetAutoload: b<(program: Handle, autoload: boolean) => number>(
      "int bpf_program__set_autoload(void *program, bool autoload)",
    ),
    programExpectedAttachType: b<(program: Handle) => number>(
      "uint32_t bpf_program__expected_attach_type(void *program)",
    ),
    programSetLogBuf: b<(program: Handle, buffer: Pointer | null, size: number) => number>(
      "int bpf_program__set_log_buf(void *program, void *buffer, size_t size)",
    ),
    programSetLogLevel: b<(program: Handle, level: number) => number>(
      "int bpf_program__set_log_level(void *program, uint32_t level)",
    ),

    // libbpf: maps, programs, pins
    mapCreate: b<
      (type: number, name: string, key: number, value: number, entries: number, options: Bytes | null) => number
    >(
      "int bpf_map_create(uint32_t type, const char *name, uint32_t key, uint32_t value, uint32_t entries, void *options)",
    ),
    mapLookup: b<(fd: number, key: Uint8Array, value: Uint8Array) => number>(
      "int bpf_map_lookup_elem(int fd, const void *key, void *value)",
    ),
    mapUpdate: b<(fd: number, key: Uint8Array, value: Uint8Array, flags: number) => number>(
      "int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)",
    ),
    mapDelete: b<(fd: number, key: Uint8Array) => number>("int bpf_map_delete_elem(int fd, const void *key)"),
    mapNextKey: b<(fd: number, key: Uint8Array | null, next: Uint8Array) => number>(
      "int bpf_map_get_next_key(int fd, const void *key, void *next)",
    ),
    mapLookupBatch: b<
      (
        fd: number,
        token: Uint8Array | null,
        next: Uint8Array,
        keys: Uint8Array,
        values: Uint8Array,
        count: Uint32Array,
        options: null,
      ) => number
    >(
      "int bpf_map_lookup_batch(int fd, void *token, void *next, void *keys, void *values, void *count, void *options)",
    ),
    mapUpdateBatch: b<
      (fd: number, keys: Uint8Array, values: Uint8Array, count: Uint32Array, options: Bytes | null) => number
    >("int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, const void *options)"),
    mapDeleteBatch: b<(fd: number, keys: Uint8Array, count: Uint32Array, options: null) => number>(
      "int bpf_map_delete_batch(int fd, const void *keys, void *count, const void *options)",
    ),
    progLoad: b<
      (type: number, name: string, license: string, instructions: Bytes, count: number, options: Bytes | null) => number
    >(
      "int bpf_prog_load(uint32_t type, const char *name, const char *license, const void *i, size_t count, void *options)",
    ),
    mapTypeName: b<(type: number) => string | null>("const char *libbpf_bpf_map_type_str(uint32_t type)"),
    programTypeName: b<(type: number) => string | null>("const char *libbpf_bpf_prog_type_str(uint32_t type)"),
    linkTypeName: b<(type: number) => string | null>("const char *libbpf_bpf_link_type_str(uint32_t type)"),
    attachTypeName: b<(type: number) => string | null>("const char *libbpf_bpf_attach_type_str(uint32_t type)"),
    objPin: b<(fd: number, path: string) => number>("int bpf_obj_pin(int fd, const char *path)"),
    objGet: b<(path: string) => number>("int bpf_obj_get(const char *path)"),

    // libbpf: clsact
    tcHookCreate: b<(hook: Bytes) => number>("int bpf_tc_hook_create(void *hook)"),
    tcHookDestroy: b<(hook: Bytes) => number>("int bpf_tc_hook_destroy(void *hook)"),
    tcAttach: b<(hook: Bytes, options: Bytes) => number>("int bpf_tc_attach(const void *hook, void *options)"),
    tcDetach: b<(hook: Bytes, options: Bytes) => number>("int bpf_tc_detach(const void *hook, const void *options)"),
    tcQuery: b<(hook: Bytes, options: Bytes) => number>("int bpf_tc_query(const void *hook, void *options)"),
  };
}

let bound: ReturnType<typeof bind> | undefined;

/** The bound functions of this thread. Throws a Failure "machine" when libbpf is not installed. */
export function native(): ReturnType<typeof bind> {
  bound ??= bind();
  return bound;
}

/** Names that libbpf 1.1 does not know yet. */
const NEWER: Readonly<Record<"map" | "program" | "link" | "attach", Readonly<Record<number, string>>>> = {
  map: { 33: "arena" },
  program: { 32: "netfilter" },
  link: { 10: "netfilter", 11: "tcx", 12: "uprobe_multi", 13: "netkit", 14: "sockmap" },
  attach: { 46: "tcx_ingress", 47: "tcx_egress" },
};

/** The word for a map's, program's, link's or attach type: "lru_hash", "sched_cls"; "unknown-<type>" when nobody knows it. */
export function typeName(of: keyof typeof NEWER, type: number): string {
  return native()[`${of}TypeName`](type) ?? NEWER[of][type] ?? `unknown-${type}`;
}

/** What a call returns that waits in a thread of libuv's: `waited((done) => native().poll.async(…, done))`. */
export function waited(call: (done: (error: unknown, result: number) => void) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    call((error, result) => (error === null || error === undefined ? resolve(result) : reject(error as Error)));
  });
}

/** errno of the last libc call of this thread; read it before anything else is called. */
export function lastErrno(): number {
  return koffi.errno();
}

/** Address of the bytes of `view`, good as long as the caller holds `view`. */
export function addressOf(view: Bytes): Pointer {
  return koffi.address(view);
}

/** The memory at `pointer` without copying it. The caller keeps it mapped while the buffer lives, or detaches the buffer first. */
export function memoryAt(pointer: Pointer, length: number): ArrayBuffer {
  return koffi.view(pointer, length);
}

/** Makes every access through `buffer` harmless before its memory goes away. */
export function detach(buffer: ArrayBuffer): void {
  buffer.transfer(0);
}

const SYS_BPF = process.arch === "arm64" ? 280 : 321;

/** bpf(2). `attributes` must be as long as the kernel's struct for `command` needs. Returns -errno on failure. */
export function bpfCall(command: number, attributes: Uint8Array): number {
  const result = native().sysBpf(SYS_BPF, command, attributes, attributes.length);
  return result < 0 ? -lastErrno() : result;
}

const PRINT_TYPE = "int millrace_libbpf_print(int level, void *format, void *list)";
let printType: TypeObject | undefined;

/** Runs `body` and returns what libbpf had to say meanwhile (warnings only), one string per message. libbpf is silent otherwise. */
export function withMessages<T>(body: (messages: readonly string[]) => T): T {
  const messages: string[] = [];
  const line = new Uint8Array(2048);
  printType ??= koffi.pointer(koffi.proto(PRINT_TYPE));
  const print = koffi.register((level: number, format: Pointer, list: Pointer): number => {
    if (level !== 0) return 0;
    // A va_list parameter is passed by address on x86-64 and arm64, so it can be handed on as a pointer.
    const length = Math.min(native().vsnprintf(line, line.length, format, list), line.length - 1);
    messages.push(
      Buffer.from(line.subarray(0, Math.max(length, 0)))
        .toString("utf8")
        .replace(/^libbpf: /, "")
        .trimEnd(),
    );
    return length;
  }, printType);
  native().setPrint(print);
  try {
    return body(messages);
  } finally {
    native().setPrint(null);
    koffi.unregister(print);
  }
}
