// MetalLB for a cluster: its controller and speaker built from its Go module, its CRDs and rights from the same module's manifest,
// and a Deployment and a DaemonSet that run the programs without images of their own. Without its webhooks, and without BGP.
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { runChecked } from "../../src/lab/shell.ts";
import { AGNHOST_IMAGE } from "../cluster/images.ts";
import { CACHE } from "../cluster/paths.ts";
import { MODULE } from "../cluster/programs.ts";
import type { Progress } from "../cluster/progress.ts";

const SOURCES = join(MODULE, "metallb");
const NAME = "go.universe.tf/metallb";
const MANIFEST = "metallb-native.yaml";
const BGP_MODULE = "github.com/metallb/frr-k8s";
/** In a node's own mounts: as long as `hold` is in it, its speaker is not started. */
export const HOLD_DIRECTORY = "/var/lib/cluster/metallb";

export const NAMESPACE = "metallb-system";

function directory(): string {
  const hash = createHash("sha256").update(process.arch);
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(SOURCES, file)));
  return join(CACHE, `metallb-${hash.digest("hex").slice(0, 12)}`);
}

export function metallbVersion(): string {
  return new RegExp(`^require ${NAME} v(\\S+)|^\\s+${NAME} v(\\S+)`, "m")
    .exec(readFileSync(join(SOURCES, "go.mod"), "utf8"))!
    .slice(1)
    .find((version) => version !== undefined)!;
}

/** Builds what is missing; the first time takes minutes. Not to be run twice at once. */
export async function buildMetallb(progress: Progress): Promise<void> {
  const target = directory();
  if (existsSync(target)) return;
  progress(`building MetalLB ${metallbVersion()}`);
  const unfinished = `${target}.part`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const go = (args: readonly string[]): Promise<string> => {
    const env = { ...process.env, CGO_ENABLED: "0", GOWORK: "off", GOTOOLCHAIN: "local" };
    return runChecked("nice", ["-n", "5", "go", "-C", SOURCES, ...args], { env });
  };
  // Of a module that nobody has fetched yet Go tells no directory.
  const directoryOf = async (module: string): Promise<string> => {
    await go(["mod", "download", module]);
    return (await go(["list", "-m", "-f", "{{.Dir}}", module])).trim();
  };
  const modfile = await completeBgpTypes(unfinished, await directoryOf(BGP_MODULE));
  const programs = ["controller", "speaker"].map((name) => `${NAME}/${name}`);
  const options = ["-buildvcs=false", "-trimpath", "-ldflags", "-s -w", `-modfile=${modfile}`];
  await go(["build", ...options, "-o", `${unfinished}/`, ...programs]);
  copyFileSync(join(await directoryOf(NAME), "config/manifests", MANIFEST), join(unfinished, MANIFEST));
  renameSync(unfinished, target);
}

/** A copy of the module with the type of BGP mode that its newest version in the proxy lacks. Returns the go.mod that has it. */
async function completeBgpTypes(work: string, module: string): Promise<string> {
  const copy = join(work, "frr-k8s");
  await runChecked("cp", ["-r", "--no-preserve=mode", module, copy]);
  const field = '\tPrefixesWithCommunity []CommunityPrefixes `json:"withCommunity,omitempty"`\n';
  const added = '\tPrefixesWithAsPathPrepend []AsPathPrependPrefixes `json:"withAsPathPrepend,omitempty"`\n';
  const type = "\ntype AsPathPrependPrefixes struct {\n\tAsPathPrepend uint8\n\tPrefixes []string\n}\n";
  const types = join(copy, "api/v1beta1/frrconfiguration_types.go");
  writeFileSync(types, readFileSync(types, "utf8").replace(field, () => field + added) + type);
  const modfile = join(work, "build.mod");
  const replaced = new RegExp(`^replace ${BGP_MODULE} => .*$`, "m");
  const text = readFileSync(join(SOURCES, "go.mod"), "utf8");
  writeFileSync(
    modfile,
    text.replace(replaced, () => `replace ${BGP_MODULE} => ${copy}`),
  );
  copyFileSync(join(SOURCES, "go.sum"), join(work, "build.sum"));
  return modfile;
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: { conversion?: unknown };
}

const KEPT = ["Namespace", "CustomResourceDefinition", "ServiceAccount", "Role", "ClusterRole", "RoleBinding"];

/** The namespace, the CRDs and the rights, as MetalLB has them. */
export function metallbObjects(): Manifest[] {
  const documents = parseAllDocuments(readFileSync(join(directory(), MANIFEST), "utf8"));
  const objects = documents.map((document) => document.toJS() as Manifest | null).filter((object) => object !== null);
  const kept = objects.filter(({ kind }) => [...KEPT, "ClusterRoleBinding", "ConfigMap"].includes(kind));
  // Versions that differ are converted by a webhook.
  for (const { spec } of kept) if (spec?.conversion !== undefined) delete spec.conversion;
  return kept;
}

/** Restarts the speaker as a kubelet would, without its growing delay; SIGTERM is passed on. */
const SPEAKER_LOOP = `trap 'kill "$child"; wait "$child"; exit 0' TERM
while :; do
  while [ -e /hold/hold ]; do sleep 0.1; done
  /metallb/speaker "$@" & child=$!
  wait "$child"
done`;

function podTemplate(component: "controller" | "speaker", spec: object, container: object): object {
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const labels = { app: "metallb", component };
  return {
    selector: { matchLabels: labels },
    template: {
      metadata: { labels },
      spec: {
        serviceAccountName: component,
        terminationGracePeriodSeconds: 2,
        containers: [
          {
            name: component,
            image: AGNHOST_IMAGE,
            imagePullPolicy: "IfNotPresent",
            env: [
              field("METALLB_POD_NAME", "metadata.name"),
              field("METALLB_NODE_NAME", "spec.nodeName"),
              field("METALLB_ML_BIND_ADDR", "status.podIP"),
              { name: "METALLB_ML_LABELS", value: "app=metallb,component=speaker" },
              { name: "METALLB_ML_SECRET_NAME", value: "memberlist" },
              { name: "METALLB_ML_SECRET_KEY_PATH", value: "/etc/ml_secret_key" },
              { name: "METALLB_DEPLOYMENT", value: "controller" },
            ],
            ...container,
          },
        ],
        ...spec,
      },
    },
  };
}

/** A controller on `controllerNode`, a speaker on each of `speakerNodes`. */
export function metallbWorkloads(controllerNode: string, speakerNodes: readonly string[]): object[] {
  const onThese = { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: speakerNodes }] };
  const programs = { name: "programs", hostPath: { path: directory() } };
  const mount = (name: string, mountPath: string) => ({ name, mountPath, readOnly: true });
  const metadata = (name: string) => ({ name, namespace: NAMESPACE });
  return [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata("controller"),
      spec: podTemplate(
        "controller",
        { nodeName: controllerNode, volumes: [programs] },
        {
          command: ["/metallb/controller", "--port=0", "--webhook-mode=disabled", "--disable-cert-rotation"],
          volumeMounts: [mount("programs", "/metallb")],
        },
      ),
    },
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: metadata("speaker"),
      spec: podTemplate(
        "speaker",
        {
          hostNetwork: true,
          affinity: {
            nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [onThese] } },
          },
          volumes: [
            programs,
            { name: "hold", hostPath: { path: HOLD_DIRECTORY, type: "DirectoryOrCreate" } },
            { name: "memberlist", secret: { secretName: "memberlist" } },
            { name: "excludel2", configMap: { name: "metallb-excludel2" } },
          ],
        },
        {
          command: ["sh", "-c", SPEAKER_LOOP, "speaker", "--port=0"],
          securityContext: { capabilities: { drop: ["ALL"], add: ["NET_RAW"] } },
          volumeMounts: [
            mount("programs", "/metallb"),
            mount("hold", "/hold"),
            mount("memberlist", "/etc/ml_secret_key"),
            mount("excludel2", "/etc/metallb"),
          ],
        },
      ),
    },
  ];
}
