// Objects as an API server sends them, with little to say in each test.

export type Json = Record<string, unknown>;

export function service(
  name: string,
  fields: { version?: number; ports?: number; nodePort?: number; spec?: Json } = {},
): Json {
  const { version = 1, ports = 1, nodePort, spec = {} } = fields;
  return {
    metadata: { name, namespace: "default", uid: `uid-${name}`, resourceVersion: String(version) },
    spec: {
      type: nodePort === undefined ? "ClusterIP" : "NodePort",
      clusterIP: "10.96.0.20",
      clusterIPs: ["10.96.0.20"],
      ports: Array.from({ length: ports }, (_, i) => ({
        name: `p${i}`,
        port: 80 + i,
        protocol: "TCP",
        ...(nodePort === undefined ? {} : { nodePort: nodePort + i }),
      })),
      ...spec,
    },
    status: { loadBalancer: {} },
  };
}

export function pool(name: string, spec: Json = {}): Json {
  return {
    metadata: { name, namespace: "metallb-system", uid: `uid-${name}`, resourceVersion: "1" },
    spec: { addresses: ["192.0.2.0/24"], autoAssign: true, avoidBuggyIPs: false, ...spec },
    status: { assignedIPv4: 1, assignedIPv6: 0, availableIPv4: 255, availableIPv6: 0 },
  };
}

export function advertisement(name: string, spec: Json = {}): Json {
  return { metadata: { name, namespace: "metallb-system", uid: `uid-${name}`, resourceVersion: "1" }, spec };
}

export interface SliceFields {
  readonly version?: number;
  readonly of?: string;
  readonly addresses?: readonly string[];
  readonly trigger?: string;
  readonly endpoint?: Json;
  readonly top?: Json;
}

export function slice(name: string, fields: SliceFields = {}): Json {
  const { version = 1, of = "web", addresses = ["10.244.1.5"], trigger, endpoint = {}, top = {} } = fields;
  return {
    metadata: {
      name,
      namespace: "default",
      resourceVersion: String(version),
      labels: { "kubernetes.io/service-name": of },
      ...(trigger === undefined
        ? {}
        : { annotations: { "endpoints.kubernetes.io/last-change-trigger-time": trigger } }),
    },
    addressType: "IPv4",
    endpoints: addresses.map((address, i) => ({
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node${(i % 3) + 1}`,
      targetRef: { kind: "Pod", namespace: "default", name: `${name}-${i}` },
      ...endpoint,
    })),
    ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    ...top,
  };
}

export function event(type: "ADDED" | "MODIFIED" | "DELETED", object: Json): string {
  return `${JSON.stringify({ type, object })}\n`;
}

export function bookmark(version: number, endsList = false): string {
  const annotations = endsList ? { "k8s.io/initial-events-end": "true" } : undefined;
  return `${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: String(version), annotations } } })}\n`;
}

export function status(code: number, reason: string, message: string, details: Json = {}): Json {
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, details, code };
}

export function errorEvent(object: Json): string {
  return `${JSON.stringify({ type: "ERROR", object })}\n`;
}

export function page(version: number, items: readonly Json[], token = ""): string {
  const metadata = { resourceVersion: String(version), ...(token === "" ? {} : { continue: token }) };
  return JSON.stringify({ kind: "ServiceList", apiVersion: "v1", metadata, items });
}
