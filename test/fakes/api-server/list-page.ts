// Which objects one list request gets: consistency by resourceVersion and its match, pages by limit and continue.
import { badRequest, expired, tooLargeResourceVersion } from "./api-status.ts";
import type { ListOptions } from "./list-options.ts";
import type { Collection, ObjectStore, StoredObject } from "./object-store.ts";

export interface ListPage {
  readonly revision: number;
  readonly objects: readonly StoredObject[];
  /** "": this is the last page. */
  readonly continueToken: string;
  /** undefined with a selector: it would have to be counted. */
  readonly remaining: number | undefined;
}

interface State {
  readonly revision: number;
  readonly objects: readonly StoredObject[];
}

const TOO_OLD = "The resourceVersion for the provided list is too old.";
const CONTINUE_TOO_OLD =
  "The provided continue parameter is too old to display a consistent list result. You can start a new list without " +
  "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
  "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted " +
  "between the time the first chunk was returned and now may show up in the list.";
/** In a token: go on in the latest state. 0 would be a token without a revision. */
const LATEST = -1;

/** `prefix`: "" or "namespace/". Waits up to `freshnessMs` for a revision that is not there yet. */
export async function listPage(
  store: ObjectStore,
  collection: () => Collection,
  prefix: string,
  options: ListOptions,
  freshnessMs: number,
): Promise<ListPage> {
  const { after, state } =
    options.continueToken === ""
      ? { after: "", state: await startingState(store, collection, options, freshnessMs) }
      : continuedState(store, collection(), prefix, options);
  const inScope = state.objects.filter(({ key }) => key.startsWith(prefix) && key > after);
  // From the watch cache, at any version, the real server ignores the limit.
  const limit = options.resourceVersion === "0" ? 0 : options.limit;
  return cutPage({ revision: state.revision, objects: inScope }, limit, options.matches, prefix);
}

function cutPage(
  { revision, objects }: State,
  limit: number,
  matches: ListOptions["matches"],
  prefix: string,
): ListPage {
  const page: StoredObject[] = [];
  for (const [index, object] of objects.entries()) {
    if (matches === undefined || matches(object)) page.push(object);
    if (limit === 0 || page.length < limit) continue;
    const remaining = objects.length - 1 - index;
    if (remaining === 0) break;
    const continueToken = encodeToken(revision, object.key.slice(prefix.length));
    return { revision, objects: page, continueToken, remaining: matches === undefined ? remaining : undefined };
  }
  return { revision, objects: page, continueToken: "", remaining: undefined };
}

async function startingState(
  store: ObjectStore,
  collection: () => Collection,
  { revision, resourceVersionMatch, limit }: ListOptions,
  freshnessMs: number,
): Promise<State> {
  if (!(await store.reach(revision, freshnessMs))) throw tooLargeResourceVersion(revision, store.revision);
  const exact = revision > 0 && (resourceVersionMatch === "Exact" || (resourceVersionMatch === "" && limit > 0));
  if (!exact) return { revision: store.revision, objects: collection().list() };
  if (revision < collection().floor) throw expired(TOO_OLD);
  return { revision, objects: collection().listAt(revision) };
}

function continuedState(
  store: ObjectStore,
  collection: Collection,
  prefix: string,
  { continueToken, revision: asked }: ListOptions,
): { readonly after: string; readonly state: State } {
  if (asked !== 0) throw badRequest("specifying resource version is not allowed when using continue");
  const { revision, last } = decodeToken(continueToken);
  const after = prefix + last;
  if (revision === LATEST) return { after, state: { revision: store.revision, objects: collection.list() } };
  if (revision < collection.floor || revision > store.revision) {
    throw expired(CONTINUE_TOO_OLD, encodeToken(LATEST, last));
  }
  return { after, state: { revision, objects: collection.listAt(revision) } };
}

/** The start is the key after the last one: that key and a zero byte. */
function encodeToken(revision: number, lastKey: string): string {
  return Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", rv: revision, start: `${lastKey}\0` })).toString(
    "base64url",
  );
}

function decodeToken(token: string): { readonly revision: number; readonly last: string } {
  try {
    const { v, rv, start } = JSON.parse(Buffer.from(token, "base64url").toString());
    if (v === "meta.k8s.io/v1" && typeof rv === "number" && typeof start === "string") {
      return { revision: rv, last: start.replace(/\0$/, "") };
    }
  } catch {
    // No JSON: refused below like any other token that is not ours.
  }
  throw badRequest("invalid continue token: continue key is not valid");
}
