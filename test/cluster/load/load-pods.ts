// Pods and Services for traffic: pods on a chosen node in which the test starts its own programs, and Services in front of them.
import { AGNHOST_IMAGE } from "../images.ts";

export interface LoadPod {
  readonly name: string;
  readonly node: string;
  /** Besides `app: NAME`. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** A pod that does nothing by itself, and ends at once when it is to. */
export function loadPod({ name, node, labels = {} }: LoadPod): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", labels: { app: name, ...labels } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [{ name: "load", image: AGNHOST_IMAGE, imagePullPolicy: "IfNotPresent", args: ["pause"] }],
    },
  };
}

/** What test/lab/traffic/server.ts listens on. */
export const TRAFFIC_PORTS = { udp: 9000, stream: 9001, short: 9002 } as const;

export interface TrafficService {
  readonly name: string;
  readonly selector: Readonly<Record<string, string>>;
  /** Node ports of `udp`, `stream` and `short`: this one and the next two. None: a cluster address only. */
  readonly firstNodePort?: number;
}

/** A Service of the programs' three ports. */
export function trafficService({ name, selector, firstNodePort }: TrafficService): object {
  const port = (part: keyof typeof TRAFFIC_PORTS, protocol: string, i: number) => ({
    name: part,
    protocol,
    port: TRAFFIC_PORTS[part],
    ...(firstNodePort === undefined ? {} : { nodePort: firstNodePort + i }),
  });
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "default" },
    spec: {
      type: firstNodePort === undefined ? "ClusterIP" : "NodePort",
      ipFamilyPolicy: "PreferDualStack",
      selector,
      ports: [port("udp", "UDP", 0), port("stream", "TCP", 1), port("short", "TCP", 2)],
    },
  };
}
