// The examples name images of a registry. On the way in their pods get one that is there, and programs that answer with the
// name of the pod as `GET /hostname`. Nothing else is changed: ports, labels, and whatever else an example says stay.
import type { Container, KubernetesObject } from "../../../src/wire/kubernetes.ts";
import { AGNHOST_IMAGE } from "../images.ts";

/** What answers where an example declares no port. */
const DEFAULT_PORT = 80;

/** A Job's pods serve for so long, then end well. */
const JOB_SECONDS = 6;

interface PodSpec {
  readonly containers: readonly Container[];
  readonly [field: string]: unknown;
}

/** The object as it is, but for the images, commands and imagePullPolicy of the pods in it. */
export function withRealImages(object: KubernetesObject): KubernetesObject {
  if (object.kind === "Pod") return { ...object, spec: podSpec(object["spec"] as PodSpec, false) };
  const spec = object["spec"] as { readonly template?: { readonly spec?: PodSpec } } | undefined;
  if (spec?.template?.spec === undefined) return object;
  const template = { ...spec.template, spec: podSpec(spec.template.spec, object.kind === "Job") };
  return { ...object, spec: { ...spec, template } };
}

function podSpec(spec: PodSpec, ends: boolean): PodSpec {
  return { ...spec, containers: spec.containers.map((container) => realContainer(container, ends)) };
}

function realContainer(container: Container, ends: boolean): Container {
  // One of a test's own objects.
  if (container["image"] === AGNHOST_IMAGE) return container;
  const port = container.ports?.[0]?.containerPort ?? DEFAULT_PORT;
  const server = ["/agnhost", "netexec", `--http-port=${port}`, `--udp-port=${port}`];
  const command = ends ? ["sh", "-c", `timeout ${JOB_SECONDS} ${server.join(" ")}; exit 0`] : server;
  return { ...container, image: AGNHOST_IMAGE, imagePullPolicy: "IfNotPresent", command };
}
