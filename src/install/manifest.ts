// The objects of Millrace: those of deploy/millrace.yaml, which is the chart with its defaults, changed as the chart's values would change
// them. Pure.
import { createHash } from "node:crypto";
import { parse, parseAllDocuments, stringify } from "yaml";
import { type ClusterObject, isKnownKind } from "../kube/cluster-objects.ts";
import { field, items, type Loose, text, texts } from "../kube/fields.ts";
import { type BindAddress, parseBindAddress, withPort } from "../lib/bind-address.ts";
import { Failure } from "../lib/errors.ts";
import { CONFIG_KEY, CONFIG_MAP, CONTROLLER, DAEMON_SET, OPTIONS_ANNOTATION } from "./names.ts";

/**
 * Whether the agents have SYS_ADMIN. "in-place": of BPF and PERFMON, which these nodes' runtimes do not have; "beside" them: so that they
 * can ask a conntrack that is a module for the connections of kube-proxy.
 */
export type SysAdmin = "none" | "in-place" | "beside";

export interface ManifestChoice {
  /** As localhost/millrace:0.1.0. */
  readonly image: string;
  /** https://HOST:PORT; "": the agents look for it. */
  readonly apiServer: string;
  /** spec.loadBalancerClass of the Services that are given addresses; "": those without one. */
  readonly loadBalancerClass: string;
  /** Keys of the agents' configuration, over those of the manifest. */
  readonly config: Readonly<Record<string, string>>;
  readonly sysAdmin: SysAdmin;
  /** Names of Secrets with credentials of a registry. */
  readonly imagePullSecrets: readonly string[];
  /** What is kept of the choices, "" for nothing. */
  readonly kept: string;
  /** The API server is older than Kubernetes 1.30, and does not know what came with it. */
  readonly isBefore130: boolean;
}

const CAPABILITIES = {
  "in-place": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"],
  beside: ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON", "SYS_ADMIN"],
} as const;
const CONFIG_HASH = "millrace.io/config-hash";

/** The objects of a manifest, in its order. @throws Failure "invalid_object" */
export function readManifest(source: string, name: string): ClusterObject[] {
  const objects: ClusterObject[] = [];
  for (const document of parseAllDocuments(source)) {
    const [problem] = document.errors;
    if (problem !== undefined)
      throw new Failure("invalid_object", name, `could not read ${name}: ${problem.message.split("\n", 1)[0]}`);
    const object = document.toJS() as ClusterObject | null;
    if (object === null) continue;
    if (typeof object.kind !== "string" || !isKnownKind(object.kind) || typeof object.metadata?.name !== "string")
      throw new Failure("invalid_object", name, `could not use ${name}: it has an object of kind ${object.kind}`);
    objects.push(object);
  }
  return objects;
}

/**
 * As Helm's toYaml writes it: keys sorted, texts that YAML 1.1 reads as something else in double quotes, others that need it in single
 * ones. The hash in the pods' annotation is of this text.
 */
export function configText(config: Readonly<Record<string, unknown>>): string {
  return Object.keys(config)
    .sort()
    .map((key) => `${key}: ${scalarText(config[key])}`)
    .join("\n");
}

function scalarText(value: unknown): string {
  if (typeof value !== "string") return stringify(value, { lineWidth: 0, collectionStyle: "flow" }).trimEnd();
  if (isOtherwise(value)) return JSON.stringify(value);
  return stringify(value, { lineWidth: 0, singleQuote: true, compat: "yaml-1.1" }).trimEnd();
}

/** It would be read as no text, bare as it is. */
function isOtherwise(value: string): boolean {
  try {
    const read: unknown = parse(value, { version: "1.1", logLevel: "silent" });
    return typeof read !== "string" && typeof read !== "object" ? true : read === null;
  } catch {
    return false;
  }
}

/** What the agents' ConfigMap says in `objects`. */
export function configOf(objects: readonly ClusterObject[]): Record<string, unknown> {
  const found = objects.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === CONFIG_MAP);
  const [document] = parseAllDocuments(texts(found, "data")[CONFIG_KEY] ?? "");
  return { ...(document?.toJS() as Record<string, unknown> | undefined) };
}

function changedSpec(object: ClusterObject, change: (podSpec: Loose) => Loose): ClusterObject {
  const spec = object["spec"] as Loose;
  const template = spec["template"] as Loose;
  return { ...object, spec: { ...spec, template: { ...template, spec: change(template["spec"] as Loose) } } };
}

/** Of an init container too. */
function changedContainers(podSpec: Loose, change: (container: Loose) => Loose): Loose {
  const lists = ["initContainers", "containers"].filter((name) => Array.isArray(podSpec[name]));
  return {
    ...podSpec,
    ...Object.fromEntries(lists.map((name) => [name, (podSpec[name] as Loose[]).map(change)])),
  };
}

/** The ports of the agent's servers, for addresses that name none. */
const PORTS = { health: 10256, metrics: 10249 } as const;

/** Of a server's address, as the agents read it; undefined for "", none. */
function addressOf(name: keyof typeof PORTS, text: string): BindAddress | undefined {
  return parseBindAddress(withPort(text, PORTS[name]));
}

/** Where one on the same node asks: an address that a server with this one listens on. */
export function askedAt(host: string): string {
  if (host === "" || host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "::1" : host;
}

/** The agent's container with the ports and probes of its configured addresses. */
function withAddresses(container: Loose, config: Readonly<Record<string, unknown>>): Loose {
  const health = config["healthz-bind-address"];
  const metrics = config["metrics-bind-address"];
  let changed = container;
  for (const [name, address] of [
    ["health", health],
    ["metrics", metrics],
  ] as const) {
    if (typeof address !== "string") continue;
    const port = addressOf(name, address)?.port;
    const others = items(changed, "ports").filter((one) => field(one, "name") !== name);
    const all = port === undefined ? others : [...others, { name, containerPort: port }];
    changed = { ...changed, ports: all.toSorted((a, b) => text(a, "name").localeCompare(text(b, "name"), "en")) };
  }
  if (typeof health !== "string") return changed;
  const found = addressOf("health", health);
  const probes = ["startupProbe", "livenessProbe", "readinessProbe"];
  if (found === undefined)
    return Object.fromEntries(Object.entries(changed).filter(([name]) => !probes.includes(name)));
  const withHost = probes.map((name) => {
    const probe = changed[name] as Loose;
    return [name, { ...probe, httpGet: { ...(probe["httpGet"] as Loose), host: askedAt(found.host) } }];
  });
  return { ...changed, ...Object.fromEntries(withHost) };
}

function agentContainer(container: Loose, { sysAdmin }: ManifestChoice, config: Loose): Loose {
  if (container["name"] !== "agent") return container;
  const addressed = withAddresses(container, config);
  if (sysAdmin === "none") return addressed;
  const securityContext = addressed["securityContext"] as Loose;
  const capabilities = { ...(securityContext["capabilities"] as Loose), add: [...CAPABILITIES[sysAdmin]] };
  return { ...addressed, securityContext: { ...securityContext, capabilities } };
}

const APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/";

/** A workload without the fields that Kubernetes has from 1.30 on: AppArmor's profile was an annotation before. As the chart does it. */
function before130(workload: ClusterObject): ClusterObject {
  const podSpec = field(workload, "spec", "template", "spec");
  const unconfined = ["initContainers", "containers"]
    .flatMap((list) => items(podSpec, list))
    .filter((one) => text(one, "securityContext", "appArmorProfile", "type") === "Unconfined")
    .map((one) => [`${APPARMOR_ANNOTATION}${text(one, "name")}`, "unconfined"]);
  const changed = changedSpec(workload, (spec) => changedContainers(spec, containerBefore130));
  return unconfined.length === 0 ? changed : withAnnotations(changed, Object.fromEntries(unconfined));
}

function containerBefore130(container: Loose): Loose {
  const { securityContext, volumeMounts, ...rest } = container;
  const { appArmorProfile: _, ...context } = (securityContext ?? {}) as Loose;
  const mounts = items(container, "volumeMounts").map((mount) => {
    const { recursiveReadOnly: _, ...others } = mount as Loose;
    return others;
  });
  return {
    ...rest,
    ...(securityContext === undefined ? {} : { securityContext: context }),
    ...(volumeMounts === undefined ? {} : { volumeMounts: mounts }),
  };
}

/** The agents' configuration: `base`, the manifest's, with what was chosen. */
export function chosenConfig(
  base: Readonly<Record<string, unknown>>,
  { apiServer, loadBalancerClass, config }: Pick<ManifestChoice, "apiServer" | "loadBalancerClass" | "config">,
): Readonly<Record<string, unknown>> {
  return {
    ...base,
    ...(apiServer === "" ? {} : { apiserver: apiServer }),
    ...(loadBalancerClass === "" ? {} : { "load-balancer-class": loadBalancerClass }),
    ...config,
  };
}

/** As a pod spec names them. */
export function pullSecretsField(names: readonly string[]): { readonly imagePullSecrets?: readonly Loose[] } {
  return names.length === 0 ? {} : { imagePullSecrets: names.map((name) => ({ name })) };
}

/** `objects` with what was chosen. Whatever else the manifest says stays. */
export function configureManifest(objects: readonly ClusterObject[], choice: ManifestChoice): ClusterObject[] {
  const { image, apiServer, loadBalancerClass, kept } = choice;
  const config = chosenConfig(configOf(objects), choice);
  const written = configText(config);
  const pullSecrets = pullSecretsField(choice.imagePullSecrets);
  const flags = [
    ...(apiServer === "" ? [] : [`--apiserver=${apiServer}`]),
    ...(loadBalancerClass === "" ? [] : [`--load-balancer-class=${loadBalancerClass}`]),
  ];
  return objects.map((given) => {
    const { kind, metadata } = given;
    const isWorkload = kind === "DaemonSet" || kind === "Deployment";
    const object = choice.isBefore130 && isWorkload ? before130(given) : given;
    if (kind === "ConfigMap" && metadata.name === CONFIG_MAP) {
      const annotations = { ...metadata.annotations, [OPTIONS_ANNOTATION]: kept };
      return {
        ...object,
        ...(kept === "" ? {} : { metadata: { ...metadata, annotations } }),
        data: { ...texts(object, "data"), [CONFIG_KEY]: `${written}\n` },
      };
    }
    if (kind === "DaemonSet" && metadata.name === DAEMON_SET) {
      const changed = changedSpec(object, (podSpec) =>
        changedContainers({ ...podSpec, ...pullSecrets }, (one) => agentContainer({ ...one, image }, choice, config)),
      );
      return withAnnotations(changed, { [CONFIG_HASH]: createHash("sha256").update(written).digest("hex") });
    }
    if (kind === "Deployment" && metadata.name === CONTROLLER) {
      return changedSpec(object, (podSpec) =>
        changedContainers({ ...podSpec, ...pullSecrets }, (one) => ({
          ...one,
          image,
          args: [...items(one, "args"), ...flags],
        })),
      );
    }
    return object;
  });
}

/** Of its pods. */
function withAnnotations(workload: ClusterObject, more: Readonly<Record<string, string>>): ClusterObject {
  const spec = workload["spec"] as Loose;
  const template = spec["template"] as Loose;
  const metadata = template["metadata"] as Loose;
  const annotations = { ...texts(metadata, "annotations"), ...more };
  return { ...workload, spec: { ...spec, template: { ...template, metadata: { ...metadata, annotations } } } };
}

/** Many objects as one YAML text. */
export function manifestText(objects: readonly ClusterObject[]): string {
  return objects.map((object) => `---\n${stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })}`).join("");
}

/** What the agents of a DaemonSet have. */
export function sysAdminOf(daemonSet: ClusterObject | undefined): SysAdmin {
  const agent = items(daemonSet, "spec", "template", "spec", "containers").find((one) => text(one, "name") === "agent");
  const added = items(agent, "securityContext", "capabilities", "add");
  if (!added.includes("SYS_ADMIN")) return "none";
  return added.includes("BPF") ? "beside" : "in-place";
}

/** Names of the Secrets by which a workload's pods are given their images. */
export function pullSecretsOf(workload: ClusterObject | undefined): readonly string[] {
  return items(workload, "spec", "template", "spec", "imagePullSecrets").map((one) => text(one, "name"));
}

/** The image of the manifest's agents. */
export function imageOf(objects: readonly ClusterObject[]): string {
  const found = objects.find(({ kind, metadata }) => kind === "DaemonSet" && metadata.name === DAEMON_SET);
  return text(items(found, "spec", "template", "spec", "containers")[0], "image");
}
