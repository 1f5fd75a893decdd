// Collects what is wrong with one object, each complaint with the path of its field and in the API server's form
// ("field: Invalid value: …: why"). It never throws and never changes the object.

export interface FieldError {
  /** Such as "spec.ports[0].port"; "" when it is about the whole object. */
  readonly field: string;
  readonly reason: string;
  readonly message: string;
}

const MAX_ERRORS = 10;
const MAX_SHOWN = 120;

/** A value as it is shown in an error: JSON, cut short. */
export function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = typeof value;
  }
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

export interface Checks {
  readonly errors: readonly FieldError[];
  /** "field: message", for the first ten of an object. */
  add(field: string, message: string, reason?: string): void;
  invalid(field: string, value: unknown, why: string, reason?: string): void;
  required(field: string, what?: string): void;
  duplicate(field: string, value: unknown): void;
  forbidden(field: string, why: string): void;
  unsupported(field: string, value: unknown, supported: readonly string[]): void;
  /** Each returns undefined when the value is absent (undefined or null), and also, having complained, when it has another type. */
  record(field: string, value: unknown): Record<string, unknown> | undefined;
  list(field: string, value: unknown): readonly unknown[] | undefined;
  /** Members of a list, each with its path; what is absent among them, or no object, is complained of and left out. */
  records(field: string, value: unknown): Iterable<readonly [path: string, member: Record<string, unknown>]>;
  string(field: string, value: unknown): string | undefined;
  integer(field: string, value: unknown): number | undefined;
  boolean(field: string, value: unknown): boolean | undefined;
  /** A list whose members are strings; others are complained of and left out. */
  strings(field: string, value: unknown): readonly string[] | undefined;
  /** One of `supported`, or a complaint; "" is as good as absent, as the API server's defaults come before its checks. */
  oneOf<T extends string>(field: string, value: unknown, supported: readonly T[]): T | undefined;
}

/** spec.sessionAffinityConfig of a Service. */
export function checkAffinityConfig(checks: Checks, spec: Record<string, unknown> | undefined): void {
  const at = "spec.sessionAffinityConfig";
  const client = checks.record(`${at}.clientIP`, checks.record(at, spec?.["sessionAffinityConfig"])?.["clientIP"]);
  const seconds = checks.integer(`${at}.clientIP.timeoutSeconds`, client?.["timeoutSeconds"]);
  if (seconds !== undefined && (seconds < 1 || seconds > 86_400))
    checks.invalid(`${at}.clientIP.timeoutSeconds`, seconds, "must be between 1 and 86400, inclusive");
}

export function createChecks(): Checks {
  const errors: FieldError[] = [];
  const add = (field: string, message: string, reason = "invalid"): void => {
    if (errors.length < MAX_ERRORS)
      errors.push({ field, reason, message: field === "" ? message : `${field}: ${message}` });
  };
  const invalid = (field: string, value: unknown, why: string, reason?: string): void =>
    add(field, `Invalid value: ${shown(value)}: ${why}`, reason);
  const absent = (value: unknown): boolean => value === undefined || value === null;
  const typed = <T>(type: string, test: (value: unknown) => boolean) => {
    return (field: string, value: unknown): T | undefined => {
      if (absent(value)) return undefined;
      if (test(value)) return value as T;
      invalid(field, value, `must be ${type}`, "wrong-type");
      return undefined;
    };
  };
  const list = typed<readonly unknown[]>("a list", Array.isArray);
  const string = typed<string>("a string", (value) => typeof value === "string");
  const checks: Checks = {
    errors,
    add,
    invalid,
    required: (field, what = "") => add(field, what === "" ? "Required value" : `Required value: ${what}`),
    duplicate: (field, value) => add(field, `Duplicate value: ${shown(value)}`),
    forbidden: (field, why) => add(field, `Forbidden: ${why}`),
    unsupported: (field, value, supported) =>
      add(
        field,
        `Unsupported value: ${shown(value)}: supported values: ${supported.map((one) => `"${one}"`).join(", ")}`,
      ),
    record: typed<Record<string, unknown>>("an object", (value) => typeof value === "object" && !Array.isArray(value)),
    list,
    *records(field, value) {
      for (const [i, one] of (list(field, value) ?? []).entries()) {
        const member = checks.record(`${field}[${i}]`, one);
        if (member === undefined) checks.required(`${field}[${i}]`);
        else yield [`${field}[${i}]`, member];
      }
    },
    string,
    integer: typed<number>("an integer", Number.isSafeInteger),
    boolean: typed<boolean>("true or false", (value) => typeof value === "boolean"),
    strings(field, value) {
      return list(field, value)?.flatMap((one, i) => {
        if (absent(one)) invalid(`${field}[${i}]`, one, "must be a string", "wrong-type");
        return string(`${field}[${i}]`, one) ?? [];
      });
    },
    oneOf<T extends string>(field: string, value: unknown, supported: readonly T[]): T | undefined {
      const text = string(field, value);
      if (text === undefined || text === "") return undefined;
      if ((supported as readonly string[]).includes(text)) return text as T;
      checks.unsupported(field, text, supported);
      return undefined;
    },
  };
  return checks;
}
