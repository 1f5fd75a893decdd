// What an installation was told, kept in an annotation of its ConfigMap, so that a later run that is told less does the same. The ConfigMap is
// written before the DaemonSet and goes after it: what is kept outlives a run that was broken off in between. Pure.
import { items, text, texts } from "../kube/fields.ts";
import { configText } from "./manifest.ts";

/** auto: where a node's runtime does not have CAP_BPF, or conntrack is a module and connections of kube-proxy are to go on. */
export type SysAdminChoice = "auto" | "on" | "off" | "in-place";
export const SYS_ADMIN_CHOICES: readonly SysAdminChoice[] = ["auto", "on", "off", "in-place"];

/** What a run is told. Undefined: nothing of it; "" or empty: nothing is to be kept either. */
export interface SaidOptions {
  readonly image: string | undefined;
  readonly apiServer: string | undefined;
  readonly loadBalancerClass: string | undefined;
  /** Nodes that are left to kube-proxy. */
  readonly except: readonly string[] | undefined;
  readonly sysAdmin: SysAdminChoice | undefined;
  /** Secrets of kube-system with credentials of a registry. */
  readonly imagePullSecrets: readonly string[] | undefined;
  /** Settings of the agents, over those that are kept. */
  readonly set: Readonly<Record<string, string>>;
  /** No setting is kept. */
  readonly isSetAnew: boolean;
}

/** What counts. "", auto and empty: the defaults. */
export interface ChosenOptions {
  readonly image: string;
  readonly apiServer: string;
  readonly loadBalancerClass: string;
  readonly except: readonly string[];
  readonly sysAdmin: SysAdminChoice;
  readonly imagePullSecrets: readonly string[];
  readonly set: Readonly<Record<string, string>>;
}

export interface KeptOptions extends ChosenOptions {
  /** Of the Millrace that was told: a later one has another image. */
  readonly version: string;
  /** What was taken over from kube-proxy's configuration, which may be gone by now. */
  readonly taken: Readonly<Record<string, string>>;
}

export const NOTHING_KEPT: KeptOptions = {
  image: "",
  apiServer: "",
  loadBalancerClass: "",
  except: [],
  sysAdmin: "auto",
  imagePullSecrets: [],
  set: {},
  version: "",
  taken: {},
};

/** As the annotation has them: the names of the flags, and only what is no default. */
export function keptText(kept: KeptOptions): string {
  const all: Readonly<Record<string, unknown>> = {
    version: kept.version,
    image: kept.image,
    apiserver: kept.apiServer,
    "load-balancer-class": kept.loadBalancerClass,
    except: kept.except,
    "sys-admin": kept.sysAdmin === "auto" ? "" : kept.sysAdmin,
    "image-pull-secret": kept.imagePullSecrets,
    set: sorted(kept.set),
    "kube-proxy": sorted(kept.taken),
  };
  const isThere = (value: unknown): boolean => value !== "" && Object.keys(value as object).length > 0;
  return JSON.stringify(Object.fromEntries(Object.entries(all).filter(([, value]) => isThere(value))));
}

function sorted(all: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Undefined for an annotation that is not there, or is no JSON of ours. */
export function parseKept(annotation: string | undefined): KeptOptions | undefined {
  if (annotation === undefined) return undefined;
  let read: unknown;
  try {
    read = JSON.parse(annotation);
  } catch {
    return undefined;
  }
  if (typeof read !== "object" || read === null || Array.isArray(read)) return undefined;
  const names = (key: string): string[] => items(read, key).filter((one) => typeof one === "string");
  return {
    image: text(read, "image"),
    apiServer: text(read, "apiserver"),
    loadBalancerClass: text(read, "load-balancer-class"),
    except: names("except"),
    sysAdmin: SYS_ADMIN_CHOICES.find((one) => one === text(read, "sys-admin")) ?? "auto",
    imagePullSecrets: names("image-pull-secret"),
    set: texts(read, "set"),
    version: text(read, "version"),
    taken: texts(read, "kube-proxy"),
  };
}

/** "localhost/millrace:0.1.0@sha256:…" in its parts; "" for what it has not. */
export function imageParts(image: string): { readonly repository: string; readonly tag: string } {
  const [named = ""] = image.split("@", 1);
  const [, repository = named, tag = ""] = /^(.*):([^/:]*)$/.exec(named) ?? [];
  return { repository, tag };
}

/** Of a Millrace whose own image is `ours`: a kept one is of the repository that was named, and of this version. */
export function imageToKeep(kept: Pick<KeptOptions, "image" | "version">, ours: string): string {
  const { tag } = imageParts(ours);
  if (kept.image === "" || kept.version === tag || tag === "") return kept.image;
  return `${imageParts(kept.image).repository}:${tag}`;
}

export interface Choosing {
  readonly said: SaidOptions;
  readonly kept: KeptOptions;
  /** The image of this version. */
  readonly ours: string;
  /** Why a setting that is kept cannot be used by this version, "" when it can. */
  readonly settingProblem: (name: string, value: string) => string;
  /** Whether a node that was left out still can be: it is there, and not Millrace's. */
  readonly canBeLeft: (node: string) => boolean;
}

export interface Chosen {
  readonly options: ChosenOptions;
  /** What is kept of earlier runs, as the flags that would say it. */
  readonly flags: readonly string[];
  /** About what cannot be kept. */
  readonly remarks: readonly string[];
}

/** What a run says counts before what is kept. */
export function chooseOptions({ said, kept, ours, settingProblem, canBeLeft }: Choosing): Chosen {
  const flags: string[] = [];
  const remarks: string[] = [];
  const keep = <T extends string | readonly string[]>(flag: string, given: T | undefined, before: T, none: T): T => {
    if (given !== undefined) return given;
    for (const one of before === none ? [] : [before].flat()) flags.push(`${flag} ${one}`);
    return before;
  };
  const set: Record<string, string> = {};
  for (const [name, value] of said.isSetAnew ? [] : Object.entries(kept.set)) {
    if (Object.hasOwn(said.set, name)) continue;
    const problem = settingProblem(name, value);
    if (problem === "") set[name] = value;
    else remarks.push(`--set ${name}=${value}, kept from before, is left out: ${problem}.`);
  }
  const image = keep("--image", said.image, imageToKeep(kept, ours), "");
  const options = {
    image: image === "" ? ours : image,
    apiServer: keep("--apiserver", said.apiServer, kept.apiServer, ""),
    loadBalancerClass: keep("--load-balancer-class", said.loadBalancerClass, kept.loadBalancerClass, ""),
    except: keep("--except", said.except, kept.except.filter(canBeLeft), []),
    sysAdmin: keep<SysAdminChoice>("--sys-admin", said.sysAdmin, kept.sysAdmin, "auto"),
    imagePullSecrets: keep("--image-pull-secret", said.imagePullSecrets, kept.imagePullSecrets, []),
    set: { ...set, ...said.set },
  };
  for (const [name, value] of Object.entries(set)) flags.push(`--set ${name}=${value}`);
  return { options, flags, remarks };
}

/** How an installation that keeps no options is configured. */
export interface Configured {
  readonly config: Readonly<Record<string, unknown>>;
  readonly image: string;
}

const FLAGS: Readonly<Record<string, string>> = {
  apiserver: "--apiserver ",
  "load-balancer-class": "--load-balancer-class ",
};

/**
 * What of `before` would be otherwise `after`, as the flags that keep it. A key of the manifest's own (`base`) has no flag: it stands there
 * without dashes.
 */
export function lostBy(before: Configured, after: Configured, base: Readonly<Record<string, unknown>>): string[] {
  const isSame = (name: string): boolean =>
    Object.hasOwn(after.config, name) &&
    configText({ [name]: before.config[name] }) === configText({ [name]: after.config[name] });
  const lost = Object.keys(before.config)
    .filter((name) => !isSame(name))
    .map((name) => {
      const value = [before.config[name]].flat().join(",");
      return Object.hasOwn(base, name) ? `${name}: ${value}` : `${FLAGS[name] ?? `--set ${name}=`}${value}`;
    });
  const isOtherImage =
    before.image !== "" && imageParts(before.image).repository !== imageParts(after.image).repository;
  return isOtherImage ? [`--image ${before.image}`, ...lost] : lost;
}
