// Traefik for a cluster: built from its Go module, and the objects that run it, without an image of its own.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { runChecked } from "../../../src/lab/shell.ts";
import { AGNHOST_IMAGE } from "../images.ts";
import { CACHE } from "../paths.ts";
import { MODULE } from "../programs.ts";
import type { Progress } from "../progress.ts";

const SOURCES = join(MODULE, "traefik");
const NAME = "github.com/traefik/traefik/v3";
export const TRAEFIK = "traefik";
/** Where its pods listen. */
const PORT = 8000;
const HEALTH_PORT = 8080;

/** The middleware of a kind that nobody here asks for. */
const withoutAuthentication = (kind: "Basic" | "Digest"): string => `package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
)

func New${kind}(context.Context, http.Handler, dynamic.${kind}Auth, string) (http.Handler, error) {
	return nil, errors.New("built without ${kind} authentication")
}
`;

/** Files of its module that are made, or made anew: what they lack is in no proxy, and of no Ingress here. */
const FILES: Readonly<Record<string, string>> = {
  // A module of its own, in no archive of Traefik's.
  "pkg/config/dynamic/ext/go.mod": "module github.com/traefik/traefik/dynamic/ext\n\ngo 1.26.0\n",
  "pkg/config/dynamic/ext/ext.go": "package ext\n\ntype HTTP struct{}\n\ntype Router struct{}\n",
  // By a fork of a module.
  "pkg/middlewares/auth/basic_auth.go": withoutAuthentication("Basic"),
  "pkg/middlewares/auth/digest_auth.go": withoutAuthentication("Digest"),
  // Instead of two hundred vendors' clients.
  "pkg/provider/acme/vendors/vendors.go": `package vendors

import (
	"errors"

	"github.com/go-acme/lego/v5/challenge"
)

func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, errors.New("built without DNS challenges: " + name)
}
`,
};
const VENDORS = "github.com/go-acme/lego/v5/providers/dns";
const FORKED = "github.com/abbot/go-http-auth";

function directory(): string {
  const hash = createHash("sha256").update(process.arch).update(JSON.stringify(FILES));
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(SOURCES, file)));
  return join(CACHE, `traefik-${hash.digest("hex").slice(0, 12)}`);
}

export function traefikVersion(): string {
  return new RegExp(`^require ${NAME} (v\\S+)$`, "m").exec(readFileSync(join(SOURCES, "go.mod"), "utf8"))![1]!;
}

/** Builds it if it is missing; the first time takes minutes. Not to be run twice at once. */
export async function buildTraefik(progress: Progress): Promise<void> {
  const target = directory();
  if (existsSync(target)) return;
  progress(`building Traefik ${traefikVersion()}`);
  const env = { ...process.env, CGO_ENABLED: "0", GOWORK: "off", GOTOOLCHAIN: "local", GOFLAGS: "-buildvcs=false" };
  const module = JSON.parse(await runChecked("go", ["-C", SOURCES, "mod", "download", "-json", NAME], { env })) as {
    readonly Dir: string;
  };
  const unfinished = `${target}.part`;
  rmSync(unfinished, { recursive: true, force: true });
  const tree = join(unfinished, "module");
  mkdirSync(unfinished, { recursive: true });
  await runChecked("cp", ["-r", "--no-preserve=mode", module.Dir, tree]);
  for (const [file, text] of Object.entries(FILES)) {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), text);
  }
  const provider = join(tree, "pkg/provider/acme/provider.go");
  const text = readFileSync(provider, "utf8").replace(`"${VENDORS}"`, `dns "${NAME}/pkg/provider/acme/vendors"`);
  writeFileSync(provider, text);
  await runChecked("go", ["-C", tree, "mod", "edit", `-dropreplace=${FORKED}`, `-droprequire=${FORKED}`], { env });
  const build = [
    "build",
    "-mod=mod",
    "-trimpath",
    "-ldflags",
    "-s -w",
    "-o",
    join(unfinished, TRAEFIK),
    "./cmd/traefik",
  ];
  await runChecked("nice", ["-n", "5", "go", "-C", tree, ...build], { env });
  rmSync(tree, { recursive: true });
  renameSync(unfinished, target);
}

const metadata = { name: TRAEFIK, namespace: "default" };

/** What it reads, as its documentation for the provider `kubernetesIngress` has it, and may write: addresses of Ingress objects. */
function rights(): object[] {
  const read = ["get", "list", "watch"];
  const rules = [
    { apiGroups: [""], resources: ["services", "secrets", "nodes", "namespaces", "endpoints"], verbs: read },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: read },
    { apiGroups: ["networking.k8s.io"], resources: ["ingresses", "ingressclasses"], verbs: read },
    { apiGroups: ["networking.k8s.io"], resources: ["ingresses/status"], verbs: ["update"] },
  ];
  const apiVersion = "rbac.authorization.k8s.io/v1";
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    { apiVersion, kind: "ClusterRole", metadata: { name: TRAEFIK }, rules },
    {
      apiVersion,
      kind: "ClusterRoleBinding",
      metadata: { name: TRAEFIK },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: TRAEFIK },
      subjects: [{ kind: "ServiceAccount", ...metadata }],
    },
  ];
}

/** Traefik on each of `nodes`, behind a LoadBalancer Service of both families with policy Local, and its IngressClass. */
export function traefikObjects(nodes: readonly string[]): object[] {
  const labels = { app: TRAEFIK };
  const onThese = { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: nodes }] };
  const args = [
    `--entrypoints.web.address=:${PORT}`,
    `--entrypoints.traefik.address=:${HEALTH_PORT}`,
    "--ping=true",
    "--log.level=INFO",
    "--global.checknewversion=false",
    "--global.sendanonymoususage=false",
    "--providers.kubernetesingress=true",
    `--providers.kubernetesingress.ingressclass=${TRAEFIK}`,
    `--providers.kubernetesingress.ingressendpoint.publishedservice=${metadata.namespace}/${TRAEFIK}`,
  ];
  return [
    ...rights(),
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "IngressClass",
      metadata: { name: TRAEFIK },
      spec: { controller: "traefik.io/ingress-controller" },
    },
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata,
      spec: {
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: TRAEFIK,
            terminationGracePeriodSeconds: 1,
            affinity: {
              nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [onThese] } },
            },
            volumes: [{ name: "program", hostPath: { path: directory() } }],
            containers: [
              {
                name: TRAEFIK,
                image: AGNHOST_IMAGE,
                imagePullPolicy: "IfNotPresent",
                command: [`/program/${TRAEFIK}`, ...args],
                volumeMounts: [{ name: "program", mountPath: "/program", readOnly: true }],
                readinessProbe: { httpGet: { path: "/ping", port: HEALTH_PORT }, periodSeconds: 1 },
              },
            ],
          },
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        type: "LoadBalancer",
        externalTrafficPolicy: "Local",
        ipFamilyPolicy: "RequireDualStack",
        selector: labels,
        ports: [{ name: "web", port: 80, targetPort: PORT }],
      },
    },
  ];
}
