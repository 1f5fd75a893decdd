// What can go wrong with an answer, to be switched on and off while the server runs.
import type { ApiRequest } from "./api-request.ts";

export type Fault =
  /** Answers with a Status of this code: 500, 503, 429. */
  | { readonly kind: "status"; readonly code: number; readonly retryAfterSeconds?: number }
  /** Status 200 and bytes that are no JSON. */
  | { readonly kind: "garbage" }
  /** Status 200 and a page, as a captive portal or a proxy sends. */
  | { readonly kind: "html" }
  /** The body ends properly after so many bytes, in the middle of a JSON text. */
  | { readonly kind: "truncated"; readonly afterBytes: number }
  /** The connection breaks after so many bytes of the body. */
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** Nothing is heard after so many bytes of the body; the connection stays. */
  | { readonly kind: "silent"; readonly afterBytes: number }
  /** Takes the request, never answers. */
  | { readonly kind: "hang" }
  /** Takes the request, closes the connection. */
  | { readonly kind: "drop" }
  /** Delivers the body in chunks of so many bytes, or cuts within each character of several bytes. */
  | { readonly kind: "chunks"; readonly size: number | "within-characters" }
  /** Every event of a watch comes twice. */
  | { readonly kind: "duplicates" }
  /** Lists and initial events come in reverse order of keys. */
  | { readonly kind: "reversed" };

export interface FaultRule {
  readonly fault: Fault;
  /** Default: every one. */
  readonly verb?: ApiRequest["verb"];
  readonly resource?: string;
  /** Strikes so many requests, then no more. Default: until it is taken away. */
  readonly times?: number;
}

export class Faults {
  #rules: { readonly rule: FaultRule; left: number }[] = [];

  /** Replaces all rules; none is a healthy server. */
  set(rules: readonly FaultRule[]): void {
    this.#rules = rules.map((rule) => ({ rule, left: rule.times ?? Number.POSITIVE_INFINITY }));
  }

  /** The faults of one request, each counted as used. */
  strike({ verb, resource }: ApiRequest): readonly Fault[] {
    const struck = this.#rules.filter(
      ({ rule, left }) =>
        left > 0 && (rule.verb ?? verb) === verb && (rule.resource ?? resource?.plural) === resource?.plural,
    );
    for (const entry of struck) entry.left--;
    return struck.map(({ rule }) => rule.fault);
  }
}

export function findFault<K extends Fault["kind"]>(
  faults: readonly Fault[],
  kind: K,
): Extract<Fault, { kind: K }> | undefined {
  return faults.find((fault): fault is Extract<Fault, { kind: K }> => fault.kind === kind);
}
