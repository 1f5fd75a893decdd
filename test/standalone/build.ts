// Builders for the tables of these tests: every field that a case does not speak of has a default.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { ObjectEvent } from "../../src/model/objects.ts";
import { type ControlPlane, type ControlPlaneOptions, createControlPlane } from "../../src/standalone/control-plane.ts";
import { digestOf } from "../../src/standalone/manifest-reader.ts";
import type { KubernetesObject, RawDocument } from "../../src/wire/kubernetes.ts";

type Fields = Record<string, unknown>;

export function document(object: unknown, file = "a.yaml", index = 0): RawDocument {
  return { file, index, object };
}

export function documents(...objects: unknown[]): RawDocument[] {
  return objects.map((object, index) => document(object, "a.yaml", index));
}

export function service(name: string, spec: Fields = {}, metadata: Fields = {}): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, ...metadata },
    spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec },
  };
}

export interface PodFields {
  readonly labels?: Fields;
  readonly ip?: string;
  readonly ips?: readonly string[];
  readonly ready?: boolean;
  readonly phase?: string;
  readonly node?: string;
  readonly spec?: Fields;
  readonly ports?: readonly Fields[];
  readonly metadata?: Fields;
}

export function pod(name: string, fields: PodFields = {}): KubernetesObject {
  const {
    labels = { app: "web" },
    ip = "10.244.1.2",
    ips = [ip],
    ready = true,
    phase = "Running",
    node = "node1",
    spec = {},
    ports = [],
    metadata = {},
  } = fields;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: labels as Record<string, string>, ...metadata },
    spec: { nodeName: node, containers: [{ name: "main", ports }], ...spec },
    status: {
      phase,
      podIPs: ips.map((one) => ({ ip: one })),
      conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
    },
  };
}

export function endpoints(name: string, subsets: unknown, metadata: Fields = {}): KubernetesObject {
  return { apiVersion: "v1", kind: "Endpoints", metadata: { name, ...metadata }, subsets };
}

export function slice(name: string, of: string, fields: Fields = {}): KubernetesObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name, labels: { "kubernetes.io/service-name": of } },
    addressType: "IPv4",
    endpoints: [{ addresses: ["10.244.1.2"] }],
    ports: [{ name: "", port: 80 }],
    ...fields,
  };
}

export function node(name: string, fields: Fields = {}, labels: Fields = {}): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: labels as Record<string, string> },
    status: {
      addresses: [{ type: "InternalIP", address: "192.168.122.11" }],
      conditions: [{ type: "Ready", status: "True" }],
    },
    ...fields,
  };
}

export function pool(name: string, addresses: readonly string[], spec: Fields = {}): KubernetesObject {
  return {
    apiVersion: "metallb.io/v1beta1",
    kind: "IPAddressPool",
    metadata: { name, namespace: "metallb-system" },
    spec: { addresses, ...spec },
  };
}

/** A directory of its own that goes with the test. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-standalone-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function cluster(options: Partial<ControlPlaneOptions> = {}): Promise<ControlPlane> {
  return createControlPlane({
    stateDir: options.stateDir ?? (await temporaryDirectory()),
    serviceClusterIpRange: ["10.96.0.0/12"],
    serviceNodePortRange: { first: 30000, last: 32767 },
    ...options,
  });
}

export const DUAL_STACK = ["10.96.0.0/12", "fd00:10:96::/112"];

// biome-ignore lint/suspicious/noExplicitAny: the tests look into objects as a user of kubectl does.
export type Any = any;

/** The object of this kind and name in force, undefined when there is none. */
export function find(objects: readonly KubernetesObject[], kind: string, name: string): Any {
  return objects.find((one) => one.kind === kind && one.metadata.name === name);
}

export function slicesOf(objects: readonly KubernetesObject[], name: string): Any[] {
  return objects.filter(
    (one) => one.kind === "EndpointSlice" && one.metadata.labels?.["kubernetes.io/service-name"] === name,
  );
}

/** What is left of a Source's batches: the objects in force by "Kind key". */
export function collect(): {
  readonly objects: Map<string, Any>;
  readonly batches: ObjectEvent[][];
  take(events: readonly ObjectEvent[]): void;
} {
  const objects = new Map<string, Any>();
  const batches: ObjectEvent[][] = [];
  return {
    objects,
    batches,
    take(events) {
      batches.push([...events]);
      for (const event of events) {
        if (event.object === undefined) objects.delete(`${event.kind} ${event.key}`);
        else objects.set(`${event.kind} ${event.key}`, event.object);
      }
    },
  };
}

/** What a reader of the directory is to report. */
export async function directoryDigest(directory: string): Promise<string> {
  const names = (await readdir(directory)).filter((name) => /\.(ya?ml|json)$/.test(name));
  return digestOf(
    await Promise.all(names.map(async (name) => ({ name, content: await readFile(join(directory, name)) }))),
  );
}
