// Reads a KubeProxyConfiguration, or a ConfigMap that holds one as kubeadm makes it, as settings of `millrace run`. Knows no file: it gets
// what YAML has become. Everything wrong is a Failure of code "usage" that names the place and the field.
import type { IgnoredSetting } from "../agent/options.ts";
import { canonicalAddress } from "../lib/address.ts";
import { parseDuration } from "../lib/duration.ts";
import { Failure } from "../lib/errors.ts";
import { didYouMean } from "../lib/suggest.ts";
import {
  asksForNothing,
  DEBUG_VERBOSITY,
  KUBE_PROXY_SETTINGS,
  type KubeProxySetting,
  nodePortAddresses,
  type ValueForm,
} from "./kube-proxy-settings.ts";

export interface KubeProxyConfig {
  /** By the names of our settings, as flags would have them. */
  readonly values: Readonly<Record<string, string>>;
  /** The field that each of them is from. */
  readonly fields: Readonly<Record<string, string>>;
  readonly ignored: readonly IgnoredSetting[];
}

type Mapping = Readonly<Record<string, unknown>>;

/** kubeadm's name in the ConfigMap kube-system/kube-proxy, and in the directory that it is mounted as. */
export const CONFIG_KEY = "config.conf";
const API_VERSION = "kubeproxy.config.k8s.io/v1alpha1";
const KIND = "KubeProxyConfiguration";

/** Whether it says of itself what it is, as objects of Kubernetes do: our own configuration does not. */
export function isKubernetesObject(content: Mapping): boolean {
  return Object.hasOwn(content, "apiVersion") || Object.hasOwn(content, "kind");
}

/** Where the fields of a configuration are, for messages. */
export interface ConfigPlaces {
  /** Of the file. */
  readonly path: string;
  /** The line of a field, as "conntrack.min"; absent when nobody knows. */
  readonly lines?: ReadonlyMap<string, number>;
  /** Fields that are there more than once: the line of each that does not count, since a later one does. */
  readonly repeated?: readonly { readonly field: string; readonly line: number }[];
}

/** As kube-proxy reads it: a field that it does not know, or that is there twice, is no error. @throws Failure "usage" */
export function readKubeProxyConfig(content: Mapping, places: ConfigPlaces): KubeProxyConfig {
  const { path } = places;
  const { apiVersion, kind } = content;
  if (apiVersion !== API_VERSION || kind !== KIND) {
    const what = `kind ${String(kind ?? "(none)")} of ${String(apiVersion ?? "(no apiVersion)")}`;
    const wanted = `a ${KIND} of ${API_VERSION}, a ConfigMap with one, or settings of millrace run without apiVersion and kind`;
    throw new Failure("usage", path, `could not use the configuration ${path}: it is of ${what}; it must be ${wanted}`);
  }
  const { found, unknown } = fieldsOf(content, path);
  const values: Record<string, string> = {};
  const fields: Record<string, string> = {};
  const ignored: IgnoredSetting[] = [...repeatedFields(places), ...unknown.map((field) => unknownField(field, places))];
  const take = (name: string, field: string, text: string): void => {
    values[name] = text;
    fields[name] = field;
  };
  for (const [setting, value] of found) {
    const { field = "", takenAs, note = "", missed = false } = setting;
    const from = `${field} in ${path}`;
    const text = textOf(setting, value, from);
    const taken = takenAs === undefined ? undefined : takenValue(setting, text);
    if (takenAs !== undefined && taken !== undefined) take(takenAs, field, taken);
    else if (takenAs === undefined && !NODE_PORT_FIELDS.has(field) && !asksForNothing(setting, value))
      ignored.push({ from, why: note, missed });
  }
  take("nodeport-addresses", "nodePortAddresses", nodePortAddressesOf(found));
  if (isIPv6(given(found, "bindAddress"), path)) {
    if (values["healthz-bind-address"] === undefined) take("healthz-bind-address", "bindAddress", "[::]:10256");
    if (values["metrics-bind-address"] === undefined) take("metrics-bind-address", "bindAddress", "[::1]:10249");
  }
  return { values, fields, ignored };
}

type Found = ReadonlyMap<KubeProxySetting, unknown>;

const given = (found: Found, field: string): unknown => [...found].find(([setting]) => setting.field === field)?.[1];

/** They count for where node ports answer. */
const NODE_PORT_FIELDS: ReadonlySet<string> = new Set(
  KUBE_PROXY_SETTINGS.flatMap(({ field, decides }) => (field !== undefined && decides !== undefined ? [field] : [])),
);

function nodePortAddressesOf(found: Found): string {
  return nodePortAddresses({
    named: (given(found, "nodePortAddresses") ?? []) as readonly string[],
    mode: String(given(found, "mode") ?? ""),
    onLoopback: given(found, "iptables.localhostNodePorts") !== false,
  });
}

const placeOf = (field: string, { path, lines }: ConfigPlaces, line = lines?.get(field)): string =>
  `${field} in ${path}${line === undefined ? "" : `, line ${line}`}`;

function unknownField(field: string, places: ConfigPlaces): IgnoredSetting {
  return {
    from: placeOf(field, places),
    why: `${KIND} has no field '${field}'${didYouMean(field, [...FIELDS.keys()])}`,
    missed: true,
  };
}

function repeatedFields(places: ConfigPlaces): IgnoredSetting[] {
  return (places.repeated ?? []).map(({ field, line }) => ({
    from: placeOf(field, places, line),
    why: `it is there again in line ${places.lines?.get(field)}, and the last one counts`,
    missed: true,
  }));
}

/** @throws Failure "usage" when it is no address */
function isIPv6(bindAddress: unknown, path: string): boolean {
  if (typeof bindAddress !== "string" || bindAddress === "") return false;
  const address = canonicalAddress(bindAddress);
  if (address === undefined) throw wrong(`bindAddress in ${path}`, "an address", bindAddress);
  return address.includes(":");
}

/** What our setting gets; undefined: nothing, its default stands. */
function takenValue({ field, form }: KubeProxySetting, text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  switch (field) {
    case "logging.verbosity":
      return Number(text) >= DEBUG_VERBOSITY ? "debug" : undefined;
    case "hostnameOverride":
      return text.trim() === "" ? undefined : text.trim().toLowerCase();
    default:
      // An empty field is one that nobody set. A number or duration of 0 says something, where it is no default.
      return text === "" || (form === "switch" && text === "false") ? undefined : text;
  }
}

const FIELDS: ReadonlyMap<string, KubeProxySetting> = new Map(
  KUBE_PROXY_SETTINGS.flatMap((one) => (one.field === undefined ? [] : [[one.field, one]])),
);

/** Every field that there is, by the setting it is of, and those that nobody knows. @throws Failure "usage" for what ought to be a mapping */
function fieldsOf(content: Mapping, path: string): { readonly found: Found; readonly unknown: readonly string[] } {
  const known = [...FIELDS.keys()];
  const found = new Map<KubeProxySetting, unknown>();
  const unknown: string[] = [];
  const walk = (mapping: Mapping, before: string): void => {
    for (const [key, value] of Object.entries(mapping)) {
      const field = before + key;
      const setting = FIELDS.get(field);
      if (setting !== undefined) found.set(setting, value);
      else if (known.some((one) => one.startsWith(`${field}.`))) {
        if (value === null) continue;
        if (!isMapping(value)) throw wrong(`${field} in ${path}`, "a mapping", value);
        walk(value, `${field}.`);
      } else if (field !== "apiVersion" && field !== "kind") unknown.push(field);
    }
  };
  walk(content, "");
  return { found, unknown };
}

export function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const FORMS: Readonly<Record<ValueForm, string>> = {
  text: "a text",
  switch: "true or false",
  number: "a number",
  duration: "a time such as 24h0m0s",
  texts: "a list of texts",
  gates: "a mapping of names to true or false",
  any: "a value",
};

function wrong(from: string, wanted: string, value: unknown): Failure {
  const current = typeof value === "string" ? value : JSON.stringify(value);
  return new Failure("usage", from, `${from} must be ${wanted}: current value is '${current}'`);
}

/** The value as a flag has it; undefined for null, which is a field that nobody set. @throws Failure "usage" for another form */
function textOf({ form, choices }: KubeProxySetting, value: unknown, from: string): string | undefined {
  if (value === null || value === undefined) return undefined;
  if (!fits(form, value)) throw wrong(from, FORMS[form], value);
  if (choices !== undefined && value !== "" && !choices.includes(String(value)))
    throw wrong(from, `one of ${choices.join(", ")}`, value);
  return Array.isArray(value) ? value.join(",") : String(value);
}

function fits(form: ValueForm, value: unknown): boolean {
  switch (form) {
    case "text":
      return typeof value === "string";
    case "switch":
      return typeof value === "boolean";
    case "number":
      return typeof value === "number";
    case "duration":
      return typeof value === "string" && parseDuration(value) !== undefined;
    case "texts":
      return Array.isArray(value) && value.every((item) => typeof item === "string");
    case "gates":
      return isMapping(value) && Object.values(value).every((item) => typeof item === "boolean");
    case "any":
      return true;
  }
}

/** What a ConfigMap holds: texts by key. @throws Failure "usage" when it has no configuration of kube-proxy */
export function configMapData(content: Mapping, path: string): Readonly<Record<string, string>> {
  const data = isMapping(content["data"]) ? content["data"] : {};
  const texts = Object.entries(data).filter((entry): entry is [string, string] => typeof entry[1] === "string");
  const found = Object.fromEntries(texts);
  if (found[CONFIG_KEY] !== undefined) return found;
  const keys = Object.keys(data).join(", ") || "none";
  const reason = `its ConfigMap has no key ${CONFIG_KEY}, which kubeadm gives kube-proxy's configuration; keys: ${keys}`;
  throw new Failure("usage", path, `could not use the configuration ${path}: ${reason}`);
}
