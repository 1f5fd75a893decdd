// Objects of a cluster for a person's command: read, applied (server-side apply, KEP-555), patched and removed one by one, as plain
// JSON: what is sent is what was given, field by field. What the API server refuses is a RequestRefused.
import { parsed, readSome } from "./answers.ts";
import { ApiError } from "./api-error.ts";
import { excerpt } from "./api-problem.ts";
import type { Clock } from "./clock.ts";
import type { Demand } from "./request-head.ts";
import type { ApiTransport } from "./transport.ts";

/** An object as the API has it. */
export interface ClusterObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMetadata;
  readonly [field: string]: unknown;
}

export interface ObjectMetadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly deletionTimestamp?: string;
  readonly ownerReferences?: readonly { readonly kind: string; readonly name: string; readonly uid?: string }[];
  readonly managedFields?: readonly { readonly manager?: string; readonly subresource?: string }[];
}

interface KindPlace {
  readonly apiVersion: string;
  readonly plural: string;
  readonly isNamespaced: boolean;
}

function core(plural: string, isNamespaced = true): KindPlace {
  return { apiVersion: "v1", plural, isNamespaced };
}

function ofGroup(apiVersion: string, plural: string, isNamespaced = true): KindPlace {
  return { apiVersion, plural, isNamespaced };
}

const RBAC = "rbac.authorization.k8s.io/v1";
const METALLB = "metallb.io/v1beta1";
const MONITORING = "monitoring.coreos.com/v1";

/** The kinds that can be asked for. */
export const KINDS = {
  Namespace: core("namespaces", false),
  Node: core("nodes", false),
  Pod: core("pods"),
  Service: core("services"),
  ServiceAccount: core("serviceaccounts"),
  ConfigMap: core("configmaps"),
  Secret: core("secrets"),
  Event: core("events"),
  DaemonSet: ofGroup("apps/v1", "daemonsets"),
  Deployment: ofGroup("apps/v1", "deployments"),
  EndpointSlice: ofGroup("discovery.k8s.io/v1", "endpointslices"),
  Lease: ofGroup("coordination.k8s.io/v1", "leases"),
  PodDisruptionBudget: ofGroup("policy/v1", "poddisruptionbudgets"),
  Role: ofGroup(RBAC, "roles"),
  RoleBinding: ofGroup(RBAC, "rolebindings"),
  ClusterRole: ofGroup(RBAC, "clusterroles", false),
  ClusterRoleBinding: ofGroup(RBAC, "clusterrolebindings", false),
  CustomResourceDefinition: ofGroup("apiextensions.k8s.io/v1", "customresourcedefinitions", false),
  SelfSubjectAccessReview: ofGroup("authorization.k8s.io/v1", "selfsubjectaccessreviews", false),
  IPAddressPool: ofGroup(METALLB, "ipaddresspools"),
  L2Advertisement: ofGroup(METALLB, "l2advertisements"),
  ServiceL2Status: ofGroup(METALLB, "servicel2statuses"),
  ConfigurationState: ofGroup(METALLB, "configurationstates"),
  ServiceMonitor: ofGroup(MONITORING, "servicemonitors"),
  PodMonitor: ofGroup(MONITORING, "podmonitors"),
  PrometheusRule: ofGroup(MONITORING, "prometheusrules"),
} as const satisfies Readonly<Record<string, KindPlace>>;

export type Kind = keyof typeof KINDS;

export function isKnownKind(kind: string): kind is Kind {
  return Object.hasOwn(KINDS, kind);
}

export interface ObjectName {
  readonly name: string;
  /** Of namespaced kinds. */
  readonly namespace?: string;
}

export interface ListChoice {
  /** Absent: of the whole cluster. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Those that are wanted, asked page by page: the others are never in memory together. Absent: all. */
  readonly isWanted?: (object: ClusterObject) => boolean;
}

/** An answer other than the one that was asked for. */
export class RequestRefused extends Error {
  override readonly name = "RequestRefused";
  /** Of HTTP. 409: another was faster, or other managers of fields object. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface ClusterObjects {
  /** Undefined: there is none of this name, or no such kind. */
  get(kind: Kind, which: ObjectName): Promise<ClusterObject | undefined>;
  /** Empty, too, where the server does not know the kind. */
  list(kind: Kind, choice?: ListChoice): Promise<readonly ClusterObject[]>;
  /**
   * Server-side apply. Gives back what is stored. `force`: fields of other managers are taken over; without it RequestRefused 409 names
   * them. `dryRun`: nothing is stored.
   */
  apply(
    object: ClusterObject,
    options?: { readonly force?: boolean; readonly dryRun?: boolean },
  ): Promise<ClusterObject>;
  /** RequestRefused 409 when it is there. */
  create(object: ClusterObject): Promise<ClusterObject>;
  /** A merge patch (RFC 7386). With metadata.resourceVersion in it RequestRefused 409 when the object has another. */
  patch(kind: Kind, which: ObjectName, body: object): Promise<ClusterObject>;
  /** False: it was not there. Its dependents go too. */
  remove(kind: Kind, which: ObjectName): Promise<boolean>;
  /** The end of a container's log, "" when there is none. */
  log(pod: ObjectName, container: string, lines: number): Promise<string>;
  /** What /version says: v1.34.4. */
  version(): Promise<string>;
}

export interface ClusterObjectsOptions {
  readonly transport: Pick<ApiTransport, "send">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly fieldManager: string;
  /** Of one request, its answer included. @default 30 s */
  readonly timeoutMs?: number;
}

const PAGE = 500;
/** Bytes; a page of Nodes, which list their images, is the largest. */
const ANSWER_LIMIT = 64 * 1024 * 1024;
const APPLY = "application/apply-patch+yaml";

function pathOf(kind: Kind, { namespace }: { readonly namespace?: string | undefined }): string {
  const { apiVersion, plural, isNamespaced } = KINDS[kind];
  const root = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
  const scope = isNamespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}${scope}/${plural}`;
}

function objectPath(kind: Kind, which: ObjectName): string {
  return `${pathOf(kind, which)}/${encodeURIComponent(which.name)}`;
}

function titleOf(kind: string, { namespace, name }: { readonly namespace?: string; readonly name: string }): string {
  return `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
}

function kindOf(object: ClusterObject): Kind {
  if (isKnownKind(object.kind) && KINDS[object.kind].apiVersion === object.apiVersion) return object.kind;
  throw new Error(`no kind ${object.kind} of ${object.apiVersion} is known here`);
}

export function createClusterObjects(options: ClusterObjectsOptions): ClusterObjects {
  const { transport, clock, signal, fieldManager, timeoutMs = 30_000 } = options;

  /** `what`: as "apply DaemonSet kube-system/millrace", for sentences. */
  async function ask(demand: Demand, path: string, what: string): Promise<{ status: number; text: string }> {
    const given = new AbortController();
    const expiry = clock.after(timeoutMs, () =>
      given.abort(new ApiError("timeout", `could not ${what}: no answer within ${timeoutMs / 1000} s`)),
    );
    try {
      const response = await transport.send(demand, path, {
        signal: AbortSignal.any([signal, given.signal]),
        headTimeoutMs: timeoutMs,
        resource: path.split("?", 1)[0]!,
        verb: demand.method,
      });
      return { status: response.status, text: await readSome(response.body, ANSWER_LIMIT) };
    } finally {
      expiry.stop();
    }
  }

  async function askObject(demand: Demand, path: string, what: string): Promise<ClusterObject> {
    const { status, text } = await ask(demand, path, what);
    if (status < 200 || status > 299) throw refusal(what, status, text);
    const object = parsed(text);
    if (typeof object === "object" && object !== null && "metadata" in object) return object as ClusterObject;
    throw new RequestRefused(status, `could not ${what}: the answer is no object of the API: "${excerpt(text)}"`);
  }

  const query = (values: Readonly<Record<string, string>>): string => {
    const text = new URLSearchParams(values).toString();
    return text === "" ? "" : `?${text}`;
  };

  return {
    async get(kind, which) {
      try {
        return await askObject({ method: "GET" }, objectPath(kind, which), `read ${titleOf(kind, which)}`);
      } catch (error) {
        if (error instanceof RequestRefused && error.status === 404) return undefined;
        throw error;
      }
    },
    async list(kind, { namespace, labelSelector = "", fieldSelector = "", isWanted = () => true } = {}) {
      const what = `list ${KINDS[kind].plural}${namespace === undefined ? "" : ` in namespace ${namespace}`}`;
      const found: ClusterObject[] = [];
      let next = "";
      do {
        const values = { limit: String(PAGE), labelSelector, fieldSelector, continue: next };
        const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
        const { status, text } = await ask({ method: "GET" }, pathOf(kind, { namespace }) + query(given), what);
        if (status === 404) return [];
        // The list was too long under way: it begins anew.
        if (status === 410 && next !== "") {
          next = "";
          found.length = 0;
          continue;
        }
        if (status !== 200) throw refusal(what, status, text);
        const page = parsed(text) as { items?: ClusterObject[]; metadata?: { continue?: string } };
        if (!Array.isArray(page.items))
          throw new RequestRefused(status, `could not ${what}: the answer is no list: "${excerpt(text)}"`);
        const { apiVersion } = KINDS[kind];
        found.push(...page.items.map((item) => ({ ...item, apiVersion, kind })).filter(isWanted));
        next = page.metadata?.continue ?? "";
      } while (next !== "");
      return found;
    },
    async apply(object, { force = false, dryRun = false } = {}) {
      const kind = kindOf(object);
      const values = { fieldManager, force: String(force), ...(dryRun ? { dryRun: "All" } : {}) };
      const path = objectPath(kind, object.metadata) + query(values);
      const demand: Demand = { method: "PATCH", body: JSON.stringify(object), contentType: APPLY };
      return askObject(demand, path, `apply ${titleOf(kind, object.metadata)}`);
    },
    async create(object) {
      const kind = kindOf(object);
      const path = pathOf(kind, object.metadata) + query({ fieldManager });
      const title = titleOf(kind, { ...object.metadata, name: object.metadata.name ?? "" });
      return askObject({ method: "POST", body: JSON.stringify(object) }, path, `create ${title.trim()}`);
    },
    async patch(kind, which, body) {
      const path = objectPath(kind, which) + query({ fieldManager });
      return askObject({ method: "PATCH", body: JSON.stringify(body) }, path, `patch ${titleOf(kind, which)}`);
    },
    async remove(kind, which) {
      const what = `delete ${titleOf(kind, which)}`;
      const path = objectPath(kind, which) + query({ propagationPolicy: "Background" });
      const { status, text } = await ask({ method: "DELETE" }, path, what);
      if (status === 404) return false;
      if (status < 200 || status > 299) throw refusal(what, status, text);
      return true;
    },
    async log(pod, container, lines) {
      const path = `${objectPath("Pod", pod)}/log${query({ container, tailLines: String(lines) })}`;
      const { status, text } = await ask({ method: "GET" }, path, `read the log of ${titleOf("Pod", pod)}`);
      return status === 200 ? text : "";
    },
    async version() {
      const { status, text } = await ask({ method: "GET" }, "/version", "ask for the version of Kubernetes");
      const { gitVersion } = parsed(text) as { gitVersion?: unknown };
      if (status !== 200 || typeof gitVersion !== "string")
        throw refusal("ask for the version of Kubernetes", status, text);
      return gitVersion;
    },
  };
}

function refusal(what: string, status: number, text: string): RequestRefused {
  const { message } = (parsed(text) ?? {}) as { message?: unknown };
  const said = excerpt(typeof message === "string" ? message : "", 1000);
  const reason = status === 401 ? "the API server does not accept our credentials" : said;
  return new RequestRefused(
    status,
    `could not ${what}: ${reason === "" ? `status ${status}` : `${reason} (${status})`}`,
  );
}
