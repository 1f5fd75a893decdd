// Reads a request's path: which resource, in which namespace, by which verb.
import { PLURALS, type Plural, RESOURCES, type Resource } from "./resources.ts";

export interface ApiRequest {
  readonly verb: "list" | "watch" | "get";
  /** undefined: a path outside resources, such as /version. */
  readonly resource: (Resource & { readonly plural: Plural }) | undefined;
  readonly path: string;
  /** "" for all of them. */
  readonly namespace: string;
  /** "" for lists and watches. */
  readonly name: string;
  readonly query: URLSearchParams;
}

const RESOURCE_PATH = /^\/(?:api\/v1|apis\/([^/]+)\/v1)\/(?:namespaces\/([^/]+)\/)?([a-z]+)(?:\/([^/]+))?$/;

export function readApiRequest(url: string): ApiRequest {
  const { pathname: path, searchParams: query } = new URL(url, "http://localhost");
  const [, group = "", namespace = "", plural = "", name = ""] = RESOURCE_PATH.exec(path) ?? [];
  const known = PLURALS.find((candidate) => candidate === plural && RESOURCES[candidate].group === group);
  const resource = known === undefined ? undefined : RESOURCES[known];
  if (resource === undefined || (namespace !== "" && !resource.namespaced)) {
    return { verb: "get", resource: undefined, path, namespace: "", name: "", query };
  }
  return { verb: verbOf(name, query), resource, path, namespace, name, query };
}

function verbOf(name: string, query: URLSearchParams): ApiRequest["verb"] {
  if (name !== "") return "get";
  const watch = query.get("watch");
  return watch === null || watch === "false" || watch === "0" ? "list" : "watch";
}
