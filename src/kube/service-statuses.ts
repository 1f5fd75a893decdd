// ServiceL2Status objects (metallb.io/v1beta1) of this node: one for each Service that it announces, named after node and
// Service, labelled as MetalLB's speaker labels them. What a dead node has left of the same Services goes. Each object has one
// writer, so that nothing conflicts; whatever is done may be done twice.
import { createHash } from "node:crypto";
import type { ObjectKey } from "../model/objects.ts";
import type { AnnouncedService } from "../model/source.ts";
import { ApiProblem } from "./api-problem.ts";
import type { ApiWriter, Loose } from "./api-writer.ts";
import type { Clock } from "./clock.ts";
import type { Problem } from "./resource-record.ts";
import type { Change } from "./row.ts";
import { createWriteQueue } from "./write-queue.ts";

export interface ServiceStatusesOptions {
  readonly nodeName: string;
  /** Where the objects are. */
  readonly namespace: string;
  readonly writer: ApiWriter;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** The node announces the Service, and did not before as far as the API knows. */
  readonly onAssigned: (service: ObjectKey) => void;
  readonly onChange: () => void;
}

export interface ServiceStatuses {
  /** All that the node announces from now on. Returns at once. */
  announced(list: readonly AnnouncedService[]): void;
  /** Tells which nodes are alive. */
  takeNode(change: Change): void;
  problem(): Problem | undefined;
  /** Objects that wait to be written. */
  pending(): number;
}

const GROUP = "metallb.io";
const NODE_LABEL = "metallb.io/node";
const SERVICE_LABEL = "metallb.io/service-name";
const NAMESPACE_LABEL = "metallb.io/service-namespace";
/** A look at all that there is: so long after a Service or a loss came, when others had time to clean up after themselves. */
const LOOK_MS = 10_000;
/** Somebody may have taken our own away. */
const LOOK_AGAIN_MS = 600_000;
const PAGE_SIZE = 500;

/** The same for the same node and Service, in every run: whoever makes it twice makes one. */
export function statusName(node: string, service: ObjectKey): string {
  return `l2-${createHash("sha256").update(`${node} ${service}`).digest("hex").slice(0, 12)}`;
}

interface Found {
  readonly name: string;
  readonly node: string;
  readonly service: ObjectKey;
  readonly interfaces: string;
}

const record = (value: unknown): Loose =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Loose) : {};
const text = (value: unknown): string => (typeof value === "string" ? value : "");

function foundIn(object: unknown): Found {
  const { metadata, status } = record(object);
  const { name, labels } = record(metadata);
  const label = record(labels);
  const { interfaces, node } = record(status);
  const names = (Array.isArray(interfaces) ? interfaces : []).map((one) => text(record(one)["name"]));
  return {
    name: text(name),
    node: text(label[NODE_LABEL]),
    service: `${text(label[NAMESPACE_LABEL])}/${text(label[SERVICE_LABEL])}`,
    // One whose status was never written is to be written.
    interfaces: node === undefined ? "?" : names.join(),
  };
}

/** What is to be looked at or written: a Service of ours, an object by its name, or all that there is. */
type Due = `service ${ObjectKey}` | `object ${string}` | "ours" | "everybody's";

export function createServiceStatuses(options: ServiceStatusesOptions): ServiceStatuses {
  const { nodeName, namespace, writer, clock, onAssigned } = options;
  const path = `/apis/${GROUP}/v1beta1/namespaces/${namespace}/servicel2statuses`;
  const subject = { name: "servicel2statuses", group: GROUP, path, namespace };
  const wanted = new Map<ObjectKey, string>();
  /** Ours as they are, by Service. */
  const own = new Map<ObjectKey, string>();
  const untold = new Set<ObjectKey>();
  /** Nodes that there are, and whether they are ready. */
  const nodes = new Map<string, boolean>();
  let begun = false;
  /** What an agent before has left is known. */
  let listed = false;
  const queue = createWriteQueue<Due>({ ...options, write });
  const look = clock.after(LOOK_MS, () => {
    // Who does not know his own node yet knows of no other that it is dead.
    if (!nodes.has(nodeName)) look.restart();
    else if (wanted.size > 0) queue.due("everybody's");
  });
  look.stop();
  const lookAgain = clock.after(LOOK_AGAIN_MS * (0.5 + options.random() / 2), () => {
    if (wanted.size > 0) queue.due("ours");
    lookAgain.restart();
  });

  async function list(selector: string): Promise<readonly Found[]> {
    const found: Found[] = [];
    let token = "";
    do {
      const query = new URLSearchParams({
        limit: String(PAGE_SIZE),
        ...(selector === "" ? {} : { labelSelector: selector }),
        ...(token === "" ? {} : { continue: token }),
      });
      const { status, object } = await writer.ask({
        ...{ verb: "list", path: `${path}?${query}`, subject, expects: [404] },
      });
      // Its CRD is not there: nor is any object.
      if (status === 404) return [];
      for (const one of Array.isArray(object["items"]) ? object["items"] : []) found.push(foundIn(one));
      token = text(record(object["metadata"])["continue"]);
    } while (token !== "");
    return found;
  }

  /** Takes over what is there under our name; the rest of our own is nobody's. */
  function adopt(found: readonly Found[]): void {
    own.clear();
    for (const { name, node, service, interfaces } of found) {
      if (node !== nodeName) continue;
      if (name !== statusName(nodeName, service)) queue.due(`object ${name}`);
      else {
        own.set(service, interfaces);
        untold.delete(service);
        if (wanted.get(service) !== interfaces) queue.due(`service ${service}`);
      }
    }
    for (const service of wanted.keys()) if (!own.has(service)) queue.due(`service ${service}`);
  }

  async function write(due: Due): Promise<void> {
    try {
      await writeDue(due);
    } catch (error) {
      // Who may write no objects says so by events alone.
      if (error instanceof ApiProblem && error.reason === "forbidden") for (const one of untold) tellAssigned(one);
      throw error;
    }
  }

  async function writeDue(due: Due): Promise<void> {
    if (due === "ours") {
      adopt(await list(`${NODE_LABEL}=${nodeName}`));
      listed = true;
    } else if (due === "everybody's") {
      for (const { name, node, service } of await list(""))
        if (node !== nodeName && nodes.get(node) !== true && wanted.has(service)) queue.due(`object ${name}`);
    } else if (due.startsWith("object ")) await remove(due.slice("object ".length));
    else await writeService(due.slice("service ".length));
  }

  async function remove(name: string): Promise<void> {
    await writer.ask({ verb: "delete", path: `${path}/${name}`, subject, expects: [404] });
  }

  async function writeService(service: ObjectKey): Promise<void> {
    const name = statusName(nodeName, service);
    const interfaces = wanted.get(service);
    const before = own.get(service);
    if (interfaces === before) return;
    if (interfaces === undefined) {
      await remove(name);
      own.delete(service);
      return;
    }
    if (before === undefined) {
      // Whatever comes of it: an answer may be lost, and the object be there.
      own.set(service, "?");
      const { status } = await writer.ask({
        ...{ verb: "create", path, subject, expects: [404, 409], body: objectOf(name, service) },
      });
      tellAssigned(service);
      if (status === 404) {
        own.delete(service);
        return;
      }
    }
    const body = { status: statusOf(service, interfaces) };
    const { status } = await writer.ask({
      ...{ verb: "patch", path: `${path}/${name}/status`, subject, expects: [404], body },
    });
    if (status === 404) {
      // Somebody took it away.
      own.delete(service);
      queue.due(`service ${service}`);
      return;
    }
    own.set(service, interfaces);
    tellAssigned(service);
  }

  function objectOf(name: string, service: ObjectKey): object {
    const [serviceNamespace, serviceName] = service.split("/");
    const labels = {
      [NODE_LABEL]: nodeName,
      [SERVICE_LABEL]: serviceName,
      [NAMESPACE_LABEL]: serviceNamespace,
    };
    return {
      apiVersion: `${GROUP}/v1beta1`,
      kind: "ServiceL2Status",
      metadata: { name, namespace, labels },
      spec: {},
    };
  }

  function statusOf(service: ObjectKey, interfaces: string): object {
    const [serviceNamespace, serviceName] = service.split("/");
    const names = interfaces === "" ? [] : interfaces.split(",");
    return { node: nodeName, serviceName, serviceNamespace, interfaces: names.map((name) => ({ name })) };
  }

  function tellAssigned(service: ObjectKey): void {
    if (untold.delete(service)) onAssigned(service);
  }

  return {
    announced(list) {
      // Before it is known what is announced nothing of an agent before is a leftover.
      if (!begun) queue.due("ours");
      begun = true;
      const next = new Map(list.map(({ service, interfaces }) => [service, [...interfaces].sort().join()]));
      for (const service of wanted.keys()) {
        if (next.has(service)) continue;
        wanted.delete(service);
        untold.delete(service);
        if (listed) queue.due(`service ${service}`);
      }
      for (const [service, interfaces] of next) {
        const before = wanted.get(service);
        if (before === interfaces) continue;
        wanted.set(service, interfaces);
        if (before === undefined) {
          untold.add(service);
          look.restart();
        }
        if (listed) queue.due(`service ${service}`);
      }
    },
    takeNode(change) {
      if (change.kind !== "Node") return;
      const { key, content } = change;
      const wasReady = nodes.get(key) === true;
      if (content === undefined) nodes.delete(key);
      else nodes.set(key, content.ready);
      if (wasReady && content?.ready !== true && wanted.size > 0) look.restart();
    },
    problem: queue.problem,
    pending: queue.size,
  };
}
