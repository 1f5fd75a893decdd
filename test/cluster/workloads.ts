// Objects that tests put into a cluster, as YAML. Images are those that the cluster has.
import { stringify } from "yaml";
import { AGNHOST_IMAGE } from "./images.ts";

export interface ServerPods {
  readonly name: string;
  /** @default "default" */
  readonly namespace?: string;
  /** @default 80 */
  readonly port?: number;
}

/** Manifests as one text. */
export function manifest(...objects: readonly object[]): string {
  return objects.map((object) => stringify(object)).join("---\n");
}

/** A container of agnhost's HTTP and UDP server: `GET /hostname`, `/clientip`, `/echo?msg=`, `/shell?cmd=`. */
export function serverContainer(port = 80): object {
  return {
    name: "server",
    image: AGNHOST_IMAGE,
    imagePullPolicy: "IfNotPresent",
    args: ["netexec", `--http-port=${port}`, `--udp-port=${port}`],
    ports: [{ containerPort: port }],
    readinessProbe: { httpGet: { path: "/hostname", port }, periodSeconds: 1 },
  };
}

/** One server pod on each node, with the label `app: NAME`. */
export function serverOnEachNode({ name, namespace = "default", port = 80 }: ServerPods): object {
  const labels = { app: name };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name, namespace },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: { terminationGracePeriodSeconds: 1, containers: [serverContainer(port)] },
      },
    },
  };
}

/** A dual-stack Service of the pods with the label `app: NAME`. */
export function serviceOf({ name, namespace = "default", port = 80 }: ServerPods, spec: object = {}): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace },
    spec: { selector: { app: name }, ipFamilyPolicy: "PreferDualStack", ports: [{ port, targetPort: port }], ...spec },
  };
}
