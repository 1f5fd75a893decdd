// The control process of a lab: holds the Lab, and takes orders as JSON over HTTP on a unix socket (0600). An answer is
// lines of JSON: {"progress": text} any number of times, then {"result": …} or {"error": …}.
import { chmodSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Failure } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { objectTitle } from "../wire/kubernetes.ts";
import { Lab, type LabConfig, type Progress } from "./lab.ts";
import { labPaths } from "./lab-paths.ts";
import { cannot } from "./refusals.ts";
import { createServiceSide } from "./service-side.ts";

type Order = (body: Readonly<Record<string, unknown>>, progress: Progress) => Promise<unknown>;

/** Runs until it is killed: `down` ends it with everything else of the lab. */
export async function runControl(config: LabConfig): Promise<void> {
  const paths = labPaths(config.network.lab);
  const log = createLog("lab");
  const lab = new Lab(config, paths, await createServiceSide(paths.allocatorDir, config.network.ipv6), log);
  const orders = ordersOf(lab);
  const server = createServer((request, response) => {
    void answer(request, response, orders).catch((error: unknown) =>
      log.error({ error: String(error) }, "could not answer"),
    );
  });
  server.requestTimeout = 0;
  server.keepAliveTimeout = 1000;
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(paths.controlSocket, resolve);
  });
  chmodSync(paths.controlSocket, 0o600);
  process.on("SIGHUP", () => {});
  process.on("SIGINT", () => {});
  log.info({ lab: config.network.lab }, "control process is up");
}

function ordersOf(lab: Lab): ReadonlyMap<string, Order> {
  const isText = (value: unknown): value is string => typeof value === "string";
  const text = (body: Readonly<Record<string, unknown>>, field: string): string => {
    const value = body[field];
    if (isText(value)) return value;
    throw cannot("usage", "take the order by", field, "it must be a text");
  };
  const texts = (body: Readonly<Record<string, unknown>>, field: string): string[] => {
    const value = body[field];
    if (Array.isArray(value) && value.every(isText)) return value;
    throw cannot("usage", "take the order by", field, "it must be a list of texts");
  };
  return new Map<string, Order>([
    ["up", (body, progress) => lab.up(texts(body, "files"), progress)],
    ["apply", (body, progress) => lab.apply(texts(body, "files"), progress)],
    ["delete", (body, progress) => lab.delete(texts(body, "files"), progress)],
    ["scale", (body, progress) => lab.scale(text(body, "target"), Number(body["replicas"]), progress)],
    ["ready", (body, progress) => lab.ready(text(body, "target"), body["ready"] === true, progress)],
    ["kill", (body, progress) => lab.kill(text(body, "target"), progress)],
    ["start", (body, progress) => lab.start(text(body, "target"), progress)],
    ["kill-agent", (body) => lab.killAgent(text(body, "target"))],
    ["start-agent", (body, progress) => lab.startAgent(text(body, "target"), text(body, "dist"), progress)],
    ["join", (body, progress) => lab.join(text(body, "target"), progress)],
    ["link", (body) => lab.link(text(body, "target"), text(body, "state") === "up" ? "up" : "down")],
    ["split", (body) => lab.split(texts(body, "left"), texts(body, "right"))],
    ["heal", () => lab.heal()],
    ["host", (body) => lab.host(text(body, "target"), text(body, "address"))],
    ["target", (body) => lab.target(text(body, "target"))],
    ["status", async () => lab.status()],
    ["object", async (body) => lab.objects().find((object) => objectTitle(object) === text(body, "title"))],
    ["objects", async (body) => lab.objects().filter((object) => object.kind === text(body, "kind"))],
  ]);
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  orders: ReadonlyMap<string, Order>,
): Promise<void> {
  response.on("error", () => {});
  response.setHeader("content-type", "application/x-ndjson");
  const say = (line: object) => response.writable && response.write(`${JSON.stringify(line)}\n`);
  try {
    const order = orders.get((request.url ?? "").replace(/^\/v1\//, ""));
    if (request.method !== "POST" || order === undefined)
      throw cannot("usage", "take the order", request.url ?? "", "there is none of this name");
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = JSON.parse(Buffer.concat(parts).toString() || "{}") as Record<string, unknown>;
    const result = await order(body, (progress) => say({ progress }));
    say({ result: result ?? null });
  } catch (error) {
    const said = `internal error in the lab's control process: ${(error as Error).stack ?? String(error)}`;
    const failure = error instanceof Failure ? error : new Failure("internal", "lab", said);
    say({ error: { code: failure.code, subject: failure.subject, message: failure.message } });
  }
  response.end();
}
