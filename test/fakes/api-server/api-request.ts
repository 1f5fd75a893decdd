// Reads a request's path: which resource, in which namespace, by which verb.
import { apiVersionOf, PLURALS, type Plural, RESOURCES, type Resource } from "./resources.ts";

export interface ApiRequest {
  readonly verb: "list" | "watch" | "get" | "create" | "patch" | "update" | "delete";
  /** undefined: a path outside resources, such as /version. */
  readonly resource: (Resource & { readonly plural: Plural }) | undefined;
  readonly path: string;
  /** "" for all of them. */
  readonly namespace: string;
  /** "" for lists and watches. */
  readonly name: string;
  /** "status", or "" for the object itself. */
  readonly subresource: string;
  readonly query: URLSearchParams;
}

const RESOURCE_PATH =
  /^\/(?:api\/(v1)|apis\/([^/]+\/v[^/]+))\/(?:namespaces\/([^/]+)\/)?([a-z0-9]+)(?:\/([^/]+)(?:\/(status))?)?$/;

const WRITES: Readonly<Record<string, ApiRequest["verb"]>> = {
  POST: "create",
  PATCH: "patch",
  PUT: "update",
  DELETE: "delete",
};

export function readApiRequest(url: string, method = "GET"): ApiRequest {
  const { pathname: path, searchParams: query } = new URL(url, "http://localhost");
  const [, core, grouped, namespace = "", plural = "", name = "", subresource = ""] = RESOURCE_PATH.exec(path) ?? [];
  const version = core ?? grouped;
  const known = PLURALS.find((candidate) => candidate === plural && apiVersionOf(RESOURCES[candidate]) === version);
  const resource = known === undefined ? undefined : RESOURCES[known];
  if (resource === undefined || (namespace !== "" && !resource.namespaced)) {
    return { verb: "get", resource: undefined, path, namespace: "", name: "", subresource: "", query };
  }
  const verb = WRITES[method] ?? (name === "" ? verbOfMany(query) : "get");
  return { verb, resource, path, namespace, name, subresource, query };
}

function verbOfMany(query: URLSearchParams): ApiRequest["verb"] {
  const watch = query.get("watch");
  return watch === null || watch === "false" || watch === "0" ? "list" : "watch";
}
