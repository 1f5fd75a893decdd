// kube-proxy's flags that Millrace has by another name or not at all: each is taken as one of ours, or named as ignored. Those of the
// same name are ours already, and not of this file.
import type { IgnoredSetting } from "../agent/options.ts";
import { withPort } from "../lib/bind-address.ts";
import { parseDuration } from "../lib/duration.ts";
import { Failure } from "../lib/errors.ts";
import {
  asksForNothing,
  DEBUG_VERBOSITY,
  KUBE_PROXY_SETTINGS,
  type KubeProxySetting,
  nodePortAddresses,
} from "./kube-proxy-settings.ts";
import { SETTINGS } from "./settings.ts";

export interface KubeProxyFlag extends KubeProxySetting {
  readonly flag: string;
}

const OURS: ReadonlySet<string> = new Set(SETTINGS.map(({ name }) => name));

export const KUBE_PROXY_FLAGS: readonly KubeProxyFlag[] = KUBE_PROXY_SETTINGS.filter(
  (one): one is KubeProxyFlag => one.flag !== undefined && !OURS.has(one.flag),
);

export interface TakenFlags {
  /** Ours, with those of kube-proxy among them. */
  readonly flags: Readonly<Record<string, string>>;
  /** By the name of a setting of ours: the flag of kube-proxy that it was given by. */
  readonly names: Readonly<Record<string, string>>;
  readonly ignored: readonly IgnoredSetting[];
}

/**
 * `ours`: by the names of our settings; `theirs`: by the names of kube-proxy's flags. When both say the same, ours counts.
 * `isSaid`: whether a variable or a file gives a setting of ours; what kube-proxy's mode means for it does not count then.
 * @throws Failure "usage" that names the flag
 */
export function takeKubeProxyFlags(
  ours: Readonly<Record<string, string>>,
  theirs: Readonly<Record<string, string>>,
  isSaid: (name: string) => boolean = () => false,
): TakenFlags {
  const flags: Record<string, string> = { ...ours };
  const names: Record<string, string> = {};
  const ignored: IgnoredSetting[] = [];
  for (const setting of KUBE_PROXY_FLAGS) {
    const { flag, takenAs, note = "", missed = false } = setting;
    const text = theirs[flag];
    if (text === undefined) continue;
    const from = `--${flag}`;
    check(setting, text, from);
    if (takenAs === undefined) {
      const why = setting.decides === undefined ? note : decidedBy(setting.decides, ours, isSaid);
      if (why !== undefined && !asksForNothing(setting, plainValue(setting, text))) ignored.push({ from, why, missed });
      continue;
    }
    const taken = takenText(flag, text, ours[takenAs], from);
    if (typeof taken === "string") {
      flags[takenAs] = taken;
      names[takenAs] = from;
    } else if (taken !== undefined) ignored.push({ from, missed: false, ...taken });
  }
  const addresses = nodePortAddressesOf(ours, theirs);
  if (addresses === undefined || decidedBy("nodeport-addresses", ours, isSaid) !== undefined)
    return { flags, names, ignored };
  return { flags: { ...flags, "nodeport-addresses": addresses }, names, ignored };
}

/** Why flags that count for this setting do not; undefined: they do. */
function decidedBy(
  name: string,
  ours: Readonly<Record<string, string>>,
  isSaid: (name: string) => boolean,
): string | undefined {
  return ours[name] === undefined && isSaid(name) ? `the environment or the configuration says ${name}` : undefined;
}

/** Where node ports answer by the flags that say something about it, as a configuration of the same would have it; undefined: none does. */
function nodePortAddressesOf(
  { "nodeport-addresses": named = "" }: Readonly<Record<string, string>>,
  { "proxy-mode": mode, "iptables-localhost-nodeports": localhost }: Readonly<Record<string, string>>,
): string | undefined {
  const onLoopback = localhost !== "false";
  if (mode === undefined && onLoopback) return undefined;
  return nodePortAddresses({ named: named === "" ? [] : named.split(","), mode: mode ?? "", onLoopback });
}

/** The text of our flag; why it is ignored; undefined: it asks for what there is anyway. `own`: of our flag. */
function takenText(
  flag: string,
  text: string,
  own: string | undefined,
  from: string,
): string | { readonly why: string } | undefined {
  if (flag === "healthz-port" || flag === "metrics-port") return portText(text, own, from);
  if (own !== undefined) return { why: "another flag says it: see docs/kube-proxy.md" };
  if (flag === "v") return Number(text) >= DEBUG_VERBOSITY ? "debug" : undefined;
  if (flag === "hostname-override") return text.trim() === "" ? undefined : text.trim().toLowerCase();
  return text;
}

/** As kube-proxy: 0 turns the server off, any other port is for an address without one. */
function portText(text: string, own: string | undefined, from: string): string | { readonly why: string } {
  const port = Number(text);
  if (port > 65535) throw new Failure("usage", from, `${from} must be a port: current value is '${text}'`);
  if (port === 0) return "";
  const address = withPort(own ?? "", port);
  if (address !== (own ?? "")) return address;
  return { why: "the address that is listened on has a port; it is said there" };
}

function check({ form, choices }: KubeProxyFlag, text: string, from: string): void {
  const refuse = (wanted: string): never => {
    throw new Failure("usage", from, `${from} must be ${wanted}: current value is '${text}'`);
  };
  if (form === "switch" && !/^(true|false)$/.test(text)) refuse("true or false");
  if (form === "number" && !/^-?\d{1,9}(\.\d+)?$/.test(text)) refuse("a number");
  if (form === "duration" && parseDuration(text) === undefined) refuse("a time such as 24h0m0s");
  if (choices !== undefined && text !== "" && !choices.includes(text)) refuse(`one of ${choices.join(", ")}`);
}

/** As a configuration would have it. */
function plainValue({ form }: KubeProxyFlag, text: string): unknown {
  if (form === "switch") return text === "true";
  return form === "number" ? Number(text) : text;
}
