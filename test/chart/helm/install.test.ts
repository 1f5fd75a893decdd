// What `millrace install` makes of the plain manifest is what the chart makes of the same values.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { configureManifest, imageOf, type ManifestChoice, readManifest } from "../../../src/install/manifest.ts";
import { objectsOf } from "../objects.ts";
import { HELMS, template } from "./helm.ts";

const MANIFEST = resolve(import.meta.dirname, "../../../deploy/millrace.yaml");
const objects = readManifest(readFileSync(MANIFEST, "utf8"), "deploy/millrace.yaml");
const CHOICE: ManifestChoice = {
  image: imageOf(objects),
  apiServer: "",
  loadBalancerClass: "",
  config: {},
  sysAdmin: "none",
  imagePullSecrets: [],
  kept: "",
  isBefore130: false,
};

const CASES: readonly (readonly [name: string, choice: Partial<ManifestChoice>, values: object])[] = [
  ["nothing", {}, {}],
  ["an image", { image: "r.example.com/m:2" }, { image: { repository: "r.example.com/m", tag: "2" } }],
  ["the API server", { apiServer: "https://cp:6443" }, { apiServer: "https://cp:6443" }],
  ["a class", { loadBalancerClass: "millrace.io/l2" }, { loadBalancerClass: "millrace.io/l2" }],
  ["credentials of a registry", { imagePullSecrets: ["a", "b"] }, { imagePullSecrets: [{ name: "a" }, { name: "b" }] }],
  ["SYS_ADMIN", { sysAdmin: "in-place" }, { agent: { capabilities: ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"] } }],
  [
    "SYS_ADMIN beside the others",
    { sysAdmin: "beside" },
    { agent: { capabilities: ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON", "SYS_ADMIN"] } },
  ],
  [
    "settings",
    { config: { xdp: "off", "nodeport-addresses": "primary,10.0.0.0/8" } },
    { config: { xdp: "off", "nodeport-addresses": "primary,10.0.0.0/8" } },
  ],
  [
    "addresses of servers",
    { config: { "healthz-bind-address": "[::]:10999", "metrics-bind-address": "0.0.0.0:10249" } },
    { config: { "healthz-bind-address": "[::]:10999", "metrics-bind-address": "0.0.0.0:10249" } },
  ],
  [
    "addresses alone",
    { config: { "healthz-bind-address": "::", "metrics-bind-address": "0.0.0.0" } },
    { config: { "healthz-bind-address": "::", "metrics-bind-address": "0.0.0.0" } },
  ],
  ["a Kubernetes before 1.30", { isBefore130: true }, {}],
  ["no health", { config: { "healthz-bind-address": "" } }, { config: { "healthz-bind-address": "" } }],
  [
    "everything",
    {
      image: "m:2",
      apiServer: "https://[fd00::2]:6443",
      loadBalancerClass: "a.b/c",
      config: { xdp: "off" },
      sysAdmin: "in-place",
    },
    {
      image: { repository: "m", tag: "2" },
      apiServer: "https://[fd00::2]:6443",
      loadBalancerClass: "a.b/c",
      config: { xdp: "off" },
      agent: { capabilities: ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"] },
    },
  ],
];

describe.each(HELMS)("the installer and Helm %s agree on", (version) => {
  it.each(CASES)("%s", (_, choice, values) => {
    const kubernetes = choice.isBefore130 === true ? ["--kube-version", "1.29.0"] : [];
    const { ok, out, err } = template(version, values, ["--include-crds", "--skip-tests", ...kubernetes]);
    expect(err === "" || ok).toBe(true);
    const titled = (all: readonly object[]): Record<string, unknown> =>
      Object.fromEntries(
        (all as { kind: string; metadata: { name: string } }[]).map((one) => [`${one.kind} ${one.metadata.name}`, one]),
      );
    expect(titled(configureManifest(objects, { ...CHOICE, ...choice }))).toEqual(titled(objectsOf(out)));
  });
});
