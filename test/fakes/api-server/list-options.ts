// The query of a list or watch: parsed, defaulted and refused as apimachinery does (ValidateListOptions of 1.34).
import { ApiStatus, badRequest, invalidListOptions, type StatusCause } from "./api-status.ts";
import type { Resource } from "./resources.ts";
import { fieldPredicate, labelPredicate, type Predicate } from "./selectors.ts";

export interface ListOptions {
  readonly watch: boolean;
  readonly allowWatchBookmarks: boolean;
  /** As given: "" and "0" mean different things. */
  readonly resourceVersion: string;
  /** 0 for "" and "0". */
  readonly revision: number;
  readonly resourceVersionMatch: string;
  readonly sendInitialEvents: boolean | undefined;
  /** 0: as the server likes. */
  readonly timeoutSeconds: number;
  /** 0: everything. */
  readonly limit: number;
  readonly continueToken: string;
  /** undefined: no selector. */
  readonly matches: Predicate | undefined;
}

/**
 * What a server makes of sendInitialEvents: it serves them; it is of a version, or set up, without them (default up to
 * 1.31 and in 1.33); it does not read the parameter, like some that speak the same API; or its etcd is too old for them.
 */
export type StreamingLists = "served" | "refused" | "ignored" | "unsupported";

/** Throws an ApiStatus for what the server would refuse. */
export function parseListOptions(
  query: URLSearchParams,
  resource: Resource,
  streamingLists: StreamingLists,
): ListOptions {
  const asked = readQuery(query, resource);
  if (streamingLists === "ignored" && asked.watch) {
    return { ...asked, sendInitialEvents: undefined, resourceVersionMatch: "" };
  }
  const enabled = streamingLists !== "refused";
  const options = withDefaults(asked, enabled);
  const causes = options.watch ? watchCauses(options, enabled) : listCauses(options);
  if (causes.length > 0) throw invalidListOptions(causes);
  return options;
}

function readQuery(query: URLSearchParams, resource: Resource): ListOptions {
  const text = (name: string): string => query.get(name) ?? "";
  const watch = flag(query, "watch") ?? false;
  const label = labelPredicate(text("labelSelector"));
  const field = fieldPredicate(text("fieldSelector"), resource);
  return {
    watch,
    allowWatchBookmarks: flag(query, "allowWatchBookmarks") ?? false,
    resourceVersion: text("resourceVersion"),
    revision: parseRevision(text("resourceVersion"), watch),
    resourceVersionMatch: text("resourceVersionMatch"),
    sendInitialEvents: flag(query, "sendInitialEvents"),
    timeoutSeconds: whole(query, "timeoutSeconds"),
    limit: whole(query, "limit"),
    continueToken: text("continue"),
    matches: label && field ? (object) => label(object) && field(object) : (label ?? field),
  };
}

/** A watch without a starting point asks for the state first; servers with streaming lists word that in the new way. */
function withDefaults(options: ListOptions, enabled: boolean): ListOptions {
  if (!enabled || !options.watch || options.revision !== 0) return options;
  if (options.sendInitialEvents !== undefined || options.resourceVersionMatch !== "") return options;
  return { ...options, sendInitialEvents: true, resourceVersionMatch: "NotOlderThan" };
}

function listCauses(options: ListOptions): Required<StatusCause>[] {
  const causes: Required<StatusCause>[] = [];
  const match = options.resourceVersionMatch;
  if (match !== "") {
    if (options.resourceVersion === "") {
      causes.push(
        cause("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
      );
    }
    if (options.continueToken !== "") causes.push(matchWithContinue());
    if (match !== "Exact" && match !== "NotOlderThan") {
      causes.push(unsupportedMatch(match, '"Exact", "NotOlderThan", ""'));
    }
    if (match === "Exact" && options.resourceVersion === "0") {
      const text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"';
      causes.push(cause("resourceVersionMatch", text));
    }
  }
  if (options.sendInitialEvents !== undefined) {
    causes.push(cause("sendInitialEvents", "sendInitialEvents is forbidden for list"));
  }
  return causes;
}

function watchCauses(options: ListOptions, enabled: boolean): Required<StatusCause>[] {
  const causes: Required<StatusCause>[] = [];
  const match = options.resourceVersionMatch;
  if (options.sendInitialEvents !== undefined) {
    if (match !== "NotOlderThan") {
      const text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
      causes.push(cause("resourceVersionMatch", text));
    }
    if (!enabled) {
      const text = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
      causes.push(cause("sendInitialEvents", text));
    }
  }
  if (match === "") return causes;
  if (options.sendInitialEvents === undefined) {
    const text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
    causes.push(cause("resourceVersionMatch", text));
  }
  if (match !== "NotOlderThan") causes.push(unsupportedMatch(match, '"NotOlderThan"'));
  if (options.continueToken !== "") causes.push(matchWithContinue());
  return causes;
}

function matchWithContinue(): Required<StatusCause> {
  return cause("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
}

function cause(field: string, text: string): Required<StatusCause> {
  return { reason: "FieldValueForbidden", message: `Forbidden: ${text}`, field };
}

function unsupportedMatch(match: string, supported: string): Required<StatusCause> {
  const message = `Unsupported value: "${match}": supported values: ${supported}`;
  return { reason: "FieldValueNotSupported", message, field: "resourceVersionMatch" };
}

function parseRevision(text: string, watch: boolean): number {
  if (text === "") return 0;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  const reason = `strconv.ParseUint: parsing "${text}": invalid syntax`;
  const message = `resourceVersion: Invalid value: "${text}": ${reason}`;
  // Of a watch, the real one lets it through as an internal error without a reason.
  throw watch ? new ApiStatus(500, "", message) : badRequest(`invalid resource version: ${message}`);
}

function flag(query: URLSearchParams, name: string): boolean | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  return text !== "false" && text !== "0";
}

function whole(query: URLSearchParams, name: string): number {
  const text = query.get(name) ?? "0";
  if (!/^-?\d{1,15}$/.test(text)) throw badRequest(`strconv.ParseInt: parsing "${text}": invalid syntax`);
  return Math.max(0, Number(text));
}
