// A transport whose server holds objects and takes writes at once, with the refusals of the real one, and with faults on demand.
import { ApiError } from "../../src/kube/api-error.ts";
import type { Demand } from "../../src/kube/request-head.ts";
import type { ApiResponse, ApiTransport } from "../../src/kube/transport.ts";
import type { Json } from "./objects.ts";

export interface WritableApi extends Pick<ApiTransport, "send"> {
  /** By path. */
  readonly objects: Map<string, Json>;
  /** "METHOD path" of each request, in order. */
  readonly requests: string[];
  /** What happens to a request instead: no answer, this status, or an answer that is lost after the deed. Undefined: nothing. */
  fault: (request: string) => "no answer" | "lost" | number | undefined;
  /** Plural names that the server does not have. */
  readonly absent: Set<string>;
}

function answer(status: number, object: object): ApiResponse {
  async function* body(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(JSON.stringify(object));
  }
  return { status, headers: {}, body: { [Symbol.asyncIterator]: body } };
}

const metadataOf = (object: Json): Json => object["metadata"] as Json;

export function createWritableApi(): WritableApi {
  const objects = new Map<string, Json>();

  function list(path: string, query: URLSearchParams): ApiResponse {
    const labels = (query.get("labelSelector") ?? "").split(",").filter(Boolean);
    const name = /^metadata\.name=(.*)$/.exec(query.get("fieldSelector") ?? "")?.[1];
    const items = [...objects]
      .filter(([key]) => key.startsWith(`${path}/`) && !key.slice(path.length + 1).includes("/"))
      .map(([, object]) => object)
      .filter((object) => name === undefined || metadataOf(object)["name"] === name)
      .filter((object) => {
        const own = (metadataOf(object)["labels"] ?? {}) as Json;
        return labels.every((one) => own[one.split("=")[0]!] === one.split("=")[1]);
      });
    const limit = Number(query.get("limit") ?? "0") || items.length;
    const from = Number(query.get("continue") ?? "0");
    const next = from + limit < items.length ? { continue: String(from + limit) } : {};
    return answer(200, { kind: "List", metadata: next, items: items.slice(from, from + limit) });
  }

  function serve({ method, body }: Demand, path: string, query: URLSearchParams): ApiResponse {
    const given = body === undefined ? {} : (JSON.parse(body) as Json);
    if (method === "GET") return list(path, query);
    if (method === "POST") {
      const key = `${path}/${metadataOf(given)["name"]}`;
      if (objects.has(key)) return answer(409, { message: "already exists" });
      const { status: _, ...rest } = given;
      objects.set(key, rest);
      return answer(201, rest);
    }
    const isStatus = path.endsWith("/status");
    const key = isStatus ? path.slice(0, -"/status".length) : path;
    const known = objects.get(key);
    if (known === undefined) return answer(404, { message: "not found" });
    if (method === "DELETE") objects.delete(key);
    else objects.set(key, isStatus ? { ...known, status: given["status"] } : { ...known, ...given });
    return answer(200, objects.get(key) ?? {});
  }

  const api: WritableApi = {
    objects,
    requests: [],
    absent: new Set(),
    fault: () => undefined,
    async send(demand, target) {
      const [path = "", search] = target.split("?");
      const request = `${demand.method} ${path}`;
      api.requests.push(request);
      const fault = api.fault(request);
      if (fault === "no answer") throw new ApiError("unreachable", "could not reach the API server: it is away");
      if (typeof fault === "number") return answer(fault, { message: "because of the test" });
      if ([...api.absent].some((plural) => path.includes(`/${plural}`)))
        return answer(404, { message: "page not found" });
      const response = serve(demand, path, new URLSearchParams(search));
      if (fault === "lost")
        throw new ApiError("unreachable", "could not read from the API server: the connection broke");
      return response;
    },
  };
  return api;
}
