// The whole catalogue of failures: code, exit status of the CLI, HTTP status of the API. One class; subclasses only
// where they carry more than a subject. Nobody matches message text.

interface FailureKind {
  readonly exit: number;
  readonly http: number;
}

export const FAILURES = {
  /** Wrong command line or configuration. */
  usage: { exit: 2, http: 400 },
  /** A manifest or object that cannot be used; the subject names file, object and field. */
  invalid_object: { exit: 1, http: 422 },
  /** The machine lacks something: root, bpffs, cgroup2, a kernel feature. */
  machine: { exit: 3, http: 503 },
  /** Another agent holds the pin directory, or pins of another layout are in the way. */
  conflict: { exit: 4, http: 409 },
  not_found: { exit: 1, http: 404 },
  /** A map, range or table is full. */
  exhausted: { exit: 1, http: 507 },
  /** A kernel call failed. */
  kernel: { exit: 5, http: 500 },
  /** The agent or the lab's control process does not answer. */
  unreachable: { exit: 6, http: 502 },
  /** A cluster that cannot be changed as asked for, or did not become what it ought to. */
  cluster: { exit: 1, http: 502 },
  /** Something took longer than it may. */
  timeout: { exit: 7, http: 504 },
  /** A broken invariant: a defect. */
  internal: { exit: 70, http: 500 },
} as const satisfies Record<string, FailureKind>;

export type FailureCode = keyof typeof FAILURES;

/** Message: "could not <verb> <subject>: <reason>", with the fix when known. */
export class Failure extends Error {
  override readonly name: string = "Failure";
  readonly code: FailureCode;
  /** What it is about: a file, an object and its field, a map, a device. */
  readonly subject: string;

  constructor(code: FailureCode, subject: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.subject = subject;
  }
}

/** A failed system or bpf call. `errno` is positive. */
export class KernelError extends Failure {
  override readonly name: string = "KernelError";
  readonly operation: string;
  readonly errno: number;

  constructor(operation: string, subject: string, errno: number, detail: string) {
    super("kernel", subject, `could not ${operation} ${subject}: ${detail}`);
    this.operation = operation;
    this.errno = errno;
  }
}

/** The verifier refused a program. The message holds the last useful lines; `log` the whole log. */
export class VerifierError extends Failure {
  override readonly name: string = "VerifierError";
  readonly log: string;

  constructor(subject: string, summary: string, log: string) {
    super("kernel", subject, `could not load ${subject}: the verifier refused it\n${summary}`);
    this.log = log;
  }
}

/** The kernel lacks a feature, or a probe was overridden to say so. `needs` is the first kernel version that has it. */
export class UnsupportedError extends Failure {
  override readonly name: string = "UnsupportedError";
  readonly feature: string;
  readonly needs: string;

  constructor(feature: string, needs: string) {
    super("machine", feature, `could not use ${feature}: it needs Linux ${needs} or later`);
    this.feature = feature;
    this.needs = needs;
  }
}
