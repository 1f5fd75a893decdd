// A cluster's kube-proxy, read out of its DaemonSet: by which flags and which configuration it runs. Pure.
import { parse } from "yaml";
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { field, items, text, texts } from "../kube/fields.ts";
import { canonicalAddress, hostAndPort } from "../lib/address.ts";
import { parseBindAddress, withPort } from "../lib/bind-address.ts";
import { requirementsOf } from "./affinity.ts";
import { askedAt } from "./manifest.ts";
import { DAEMON_SET, NAMESPACE, NODE_LABEL } from "./names.ts";

/** kube-proxy's DaemonSet. */
export interface KubeProxyFacts {
  readonly namespace: string;
  readonly name: string;
  /** Of its pods. */
  readonly labels: Readonly<Record<string, string>>;
  /** iptables, nftables, ipvs: as its configuration or its flags say it, "" when neither is known. */
  readonly mode: string;
  /** Its affinity speaks of our label already. */
  readonly isHeldBack: boolean;
  /** ADDRESS:PORT where a process of its node asks for its health; "" when it has no such server. */
  readonly healthz: string;
  /** What it has at --config, "" when it has none or that is not known. */
  readonly configuration: string;
  /** Where that is, or ought to be, for messages. */
  readonly configurationFrom: string;
  /** By their names, as kube-proxy itself spells them; a list that is given in parts is joined by commas, a switch alone is "true". */
  readonly flags: Readonly<Record<string, string>>;
}

const IS_KUBE_PROXY = /(^|\/)kube-proxy(-[a-z0-9]+)?(:|@|$)/;

/** Whether a container's image is kube-proxy's. */
export function runsKubeProxy(container: unknown): boolean {
  return IS_KUBE_PROXY.test(text(container, "image"));
}

function containerOf(daemonSet: ClusterObject): unknown {
  return items(daemonSet, "spec", "template", "spec", "containers").find(runsKubeProxy);
}

export function findKubeProxy(daemonSets: readonly ClusterObject[]): ClusterObject | undefined {
  return daemonSets.find((one) => one.metadata.name !== DAEMON_SET && containerOf(one) !== undefined);
}

/** What a container is started with, word by word: what a shell gets is split as far as it is plain, and $(NAME) is what `env` says. */
function wordsOf(container: unknown): string[] {
  const values = new Map(
    items(container, "env")
      .filter((one) => field(one, "value") !== undefined)
      .map((one) => [text(one, "name"), text(one, "value")]),
  );
  const given = [...items(container, "command"), ...items(container, "args")].map((one) =>
    String(one).replace(/\$\(([\w.-]+)\)/g, (whole, name: string) => values.get(name) ?? whole),
  );
  const words = given.flatMap((word, at) =>
    /^-[a-z]*c$/.test(given[at - 1] ?? "") ? word.split(/\s+/).map((part) => part.replace(/["']/g, "")) : [word],
  );
  // What a shell does before is not kube-proxy's.
  return words.slice(words.findLastIndex((word) => /(^|\/)kube-proxy$/.test(word)) + 1);
}

/** As pflag reads them: --NAME=VALUE, --NAME VALUE, --SWITCH, -v=4, -v 4, -v4. */
function flagsOf(words: readonly string[]): Record<string, string> {
  const flags: Record<string, string> = {};
  for (const [at, word] of words.entries()) {
    const long = /^--([A-Za-z][\w-]*)(?:=(.*))?$/s.exec(word);
    const short = /^-(v)=?(.+)?$/.exec(word);
    const [, name, value] = long ?? short ?? [];
    if (name === undefined) continue;
    const next = words[at + 1];
    const isValue = next !== undefined && /^(-\d|[^-]|$)/.test(next);
    const said = value ?? (isValue ? next : "true");
    const spelt = name.replaceAll("_", "-");
    const before = flags[spelt];
    flags[spelt] = LISTS.has(spelt) && before !== undefined ? `${before},${said}` : said;
  }
  return flags;
}

/** Flags that may be given in parts; of all others the last one counts. */
const LISTS: ReadonlySet<string> = new Set(["nodeport-addresses", "ipvs-exclude-cidrs", "feature-gates"]);

/** A key of a ConfigMap, mounted as a file. */
interface Mounted {
  readonly configMap: string;
  readonly key: string;
}

/** What of a ConfigMap a container has at a path; undefined: it is of none, or there is nothing. */
function mountedAt(daemonSet: ClusterObject, path: string): Mounted | undefined {
  const isWithin = (directory: string): boolean => path === directory || path.startsWith(`${directory}/`);
  const [mount] = items(containerOf(daemonSet), "volumeMounts")
    .map((one) => ({
      at: text(one, "mountPath").replace(/\/+$/, ""),
      name: text(one, "name"),
      sub: text(one, "subPath"),
    }))
    .filter(({ at }) => isWithin(at))
    .sort((a, b) => b.at.length - a.at.length);
  if (mount === undefined) return undefined;
  const file = [mount.sub, path.slice(mount.at.length + 1)].filter((part) => part !== "").join("/");
  const volume = items(daemonSet, "spec", "template", "spec", "volumes").find(
    (one) => text(one, "name") === mount.name,
  );
  const direct = field(volume, "configMap");
  const projected = items(volume, "projected", "sources").map((one) => field(one, "configMap"));
  for (const source of [direct, ...projected]) {
    const chosen = items(source, "items");
    const key =
      chosen.length === 0
        ? file
        : text(
            chosen.find((one) => text(one, "path") === file),
            "key",
          );
    if (text(source, "name") !== "" && key !== "") return { configMap: text(source, "name"), key };
  }
  return undefined;
}

/** The ConfigMap with the configuration of the cluster's kube-proxy; undefined: it has none, or it is elsewhere. */
export function configMapOfKubeProxy(
  daemonSets: readonly ClusterObject[],
): { readonly namespace: string; readonly name: string } | undefined {
  const found = findKubeProxy(daemonSets);
  if (found === undefined) return undefined;
  const { config } = flagsOf(wordsOf(containerOf(found)));
  const mounted = config === undefined ? undefined : mountedAt(found, config);
  return mounted && { namespace: found.metadata.namespace ?? NAMESPACE, name: mounted.configMap };
}

const HEALTHZ_PORT = 10256;

/** As kube-proxy reads it: with --config no flag counts; an empty flag means none, an empty field the default. */
function healthzOf(read: unknown, flags: Readonly<Record<string, string>>): string {
  let said: string;
  let portAlone = HEALTHZ_PORT;
  if (flags["config"] === undefined) {
    said = flags["healthz-bind-address"] ?? "0.0.0.0";
    portAlone = Number(flags["healthz-port"] ?? HEALTHZ_PORT);
  } else {
    const isIPv6 = canonicalAddress(text(read, "bindAddress"))?.includes(":") === true;
    said = text(read, "healthzBindAddress") || (isIPv6 ? "::" : "0.0.0.0");
  }
  if (said === "" || portAlone === 0) return "";
  const alone = canonicalAddress(said);
  const address = parseBindAddress(withPort(alone?.includes(":") === true ? `[${alone}]` : said, portAlone));
  const { host, port } = address ?? { host: "", port: HEALTHZ_PORT };
  return port === 0 ? "" : hostAndPort(askedAt(host), port);
}

/** What YAML says, undefined for what is none. */
function readYaml(configuration: string): unknown {
  try {
    return parse(configuration, { maxAliasCount: 0, uniqueKeys: false });
  } catch {
    return undefined;
  }
}

/** As its configuration or its flags say it; "" when neither is known. */
function modeOf(read: unknown, flags: Readonly<Record<string, string>>): string {
  if (flags["config"] !== undefined) return read === undefined ? "" : text(read, "mode") || "iptables";
  return Object.keys(flags).length === 0 ? "" : flags["proxy-mode"] || "iptables";
}

/** `configMap`: that of `configMapOfKubeProxy`. */
export function kubeProxyFacts(
  daemonSets: readonly ClusterObject[],
  configMap: ClusterObject | undefined,
): KubeProxyFacts | undefined {
  const found = findKubeProxy(daemonSets);
  if (found === undefined) return undefined;
  const flags = flagsOf(wordsOf(containerOf(found)));
  const { config } = flags;
  const namespace = found.metadata.namespace ?? NAMESPACE;
  const mounted = config === undefined ? undefined : mountedAt(found, config);
  const configuration = mounted === undefined ? "" : (texts(configMap, "data")[mounted.key] ?? "");
  const read = configuration === "" ? undefined : readYaml(configuration);
  const from = mounted === undefined ? config : `${mounted.key} of ConfigMap ${namespace}/${mounted.configMap}`;
  return {
    namespace,
    name: found.metadata.name,
    labels: texts(found, "spec", "selector", "matchLabels"),
    mode: modeOf(read, flags),
    healthz: healthzOf(read, flags),
    isHeldBack: requirementsOf(field(found, "spec", "template", "spec", "affinity"), NODE_LABEL).length > 0,
    configuration,
    configurationFrom: from ?? "",
    flags,
  };
}
