// Create, merge patch and delete, with the refusals of the real one: names that are taken, versions that are old, objects that
// are not there, media types that are not spoken. A status is written by its own path alone.
import type { IncomingMessage, ServerResponse } from "node:http";
import { answerObject } from "./answer-once.ts";
import type { ApiRequest } from "./api-request.ts";
import { ApiStatus, badRequest, methodNotAllowed, notFound } from "./api-status.ts";
import type { KubernetesObject, ObjectStore } from "./object-store.ts";
import { type Plural, qualifiedName, type Resource } from "./resources.ts";

type Loose = Record<string, unknown>;

async function readBody(message: IncomingMessage): Promise<Loose> {
  const parts: Buffer[] = [];
  for await (const part of message) parts.push(part);
  const text = Buffer.concat(parts).toString();
  if (text === "") return {};
  try {
    return JSON.parse(text) as Loose;
  } catch {
    throw badRequest("the body of the request is no JSON");
  }
}

/** RFC 7386. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Loose = typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  }
  return result;
}

function expectMediaType(message: IncomingMessage, wanted: string): void {
  const given = message.headers["content-type"] ?? "";
  if (given.split(";")[0] === wanted) return;
  throw new ApiStatus(415, "UnsupportedMediaType", `the body of the request was in an unknown format: "${given}"`);
}

export async function answerWrite(
  message: IncomingMessage,
  response: ServerResponse,
  resource: Resource & { plural: Plural },
  { verb, namespace, name, subresource }: ApiRequest,
  store: ObjectStore,
): Promise<void> {
  const { plural, kind } = resource;
  const key = namespace === "" ? name : `${namespace}/${name}`;
  const body = await readBody(message);
  const known = store.read(plural, key);
  if (verb === "create" && name === "") {
    expectMediaType(message, "application/json");
    const metadata = body["metadata"] as KubernetesObject["metadata"];
    const wanted = `${namespace}/${metadata.name}`;
    if (store.read(plural, wanted) !== undefined) {
      throw new ApiStatus(409, "AlreadyExists", `${qualifiedName(resource)} "${metadata.name}" already exists`);
    }
    const { status, ...rest } = body;
    const object = {
      ...rest,
      ...(resource.hasStatus === true ? {} : { status }),
      kind,
      metadata: { ...metadata, namespace },
    };
    answerObject(response, resource, store.put(object as unknown as KubernetesObject), 201);
    return;
  }
  if (known === undefined) throw notFound(resource, name);
  if (verb === "delete") {
    const stored = store.collection(plural).get(key)!;
    store.delete(plural, key);
    answerObject(response, resource, stored);
    return;
  }
  if (verb !== "patch") throw methodNotAllowed();
  expectMediaType(message, "application/merge-patch+json");
  const version = (body["metadata"] as Loose | undefined)?.["resourceVersion"];
  if (version !== undefined && version !== known.metadata["resourceVersion"]) {
    const why = "the object has been modified; please apply your changes to the latest version and try again";
    throw new ApiStatus(
      409,
      "Conflict",
      `Operation cannot be fulfilled on ${qualifiedName(resource)} "${name}": ${why}`,
    );
  }
  const { status, ...rest } = body;
  const ownPath = resource.hasStatus === true;
  const patch = subresource === "status" ? { status } : ownPath ? rest : body;
  answerObject(response, resource, store.put(merged(known, patch) as KubernetesObject));
}
