// `millrace install` and `millrace uninstall`: a whole cluster, from a person's kubeconfig.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Command, Option } from "commander";
import type { SysAdminChoice } from "../install/kept-options.ts";
import { parseDuration } from "../lib/duration.ts";
import { Failure } from "../lib/errors.ts";
import { didYouMean } from "../lib/suggest.ts";
import type { Wiring } from "./program.ts";
import { WrongValue } from "./setting-values.ts";
import { SETTINGS } from "./settings.ts";

interface CommonFlags {
  readonly kubeconfig: string;
  readonly context: string;
  readonly yes: boolean;
  readonly dryRun: boolean;
  readonly parallel: string;
  readonly timeout: string;
}

/** What is not given is as it was before. */
interface InstallFlags extends CommonFlags {
  readonly image?: string;
  readonly imagePullSecret?: readonly string[];
  readonly apiserver?: string;
  readonly loadBalancerClass?: string;
  readonly besideMetallb: boolean;
  readonly except?: readonly string[];
  readonly sysAdmin?: SysAdminChoice;
  readonly set?: readonly string[];
  readonly ignoreKubeProxyConfig: boolean;
  readonly test: boolean;
  readonly force: boolean;
}

interface UninstallFlags extends CommonFlags {
  readonly drainTimeout: string;
  readonly node?: readonly string[];
  readonly deleteCrds: boolean;
  readonly withoutProxy: boolean;
}

/** Decided by the DaemonSet, by other flags, or one node's own. */
export const FIXED: readonly string[] = [
  ...["manifests", "kubeconfig", "apiserver", "namespace", "load-balancer-class", "with-controller", "read-only"],
  ...["cluster-domain", "node-name", "state-dir", "pin-dir", "api-socket", "cgroup", "announcer-secret"],
];

const KEPT = `
What is said by the flags from --image to --sys-admin is kept in the cluster: a later run that does not give one of them
does as before, and says so. A setting of --set goes by its name, an image by its repository when the version is another.
An empty value, such as --except "" or --set "", drops what was kept of a flag; so does --sys-admin auto.`;

export function registerInstallCommands(program: Command, wiring: Wiring): void {
  const common = (command: Command): Command =>
    command
      .option(
        "--kubeconfig <FILE>",
        "kubeconfig of a user who may change the cluster (default: KUBECONFIG, ~/.kube/config)",
        "",
      )
      .option("--context <NAME>", "which of its contexts (default: the current one)", "")
      .option("-y, --yes", "do not ask", false);
  const limits = (command: Command): Command =>
    command
      .option("--parallel <N>", "nodes that change hands at once", "1")
      .option("--timeout <DURATION>", "how long one node may take", "5m");

  limits(
    common(
      program.command("install").description("put Millrace into a cluster, node after node, in place of kube-proxy"),
    )
      .option("--dry-run", "print the objects as YAML and change nothing", false)
      .option("--image <IMAGE>", "image of agents and controller (at first: of this version)")
      .option(
        "--image-pull-secret <NAME>",
        "Secret of kube-system with credentials of the image's registry; may be repeated",
        several,
      )
      .option("--apiserver <URL>", "where nodes reach the API server without Services (at first: found)")
      .option("--load-balancer-class <CLASS>", "spec.loadBalancerClass of the Services that are given addresses")
      .option("--beside-metallb", "leave the Services without a class to the MetalLB that runs", false)
      .option("--except <NODE>", "leave this node to kube-proxy; may be repeated", several)
      .option("--set <NAME=VALUE>", "a setting of the agents, as of millrace run; may be repeated", collect)
      .addOption(
        new Option(
          "--sys-admin <WHEN>",
          "give the agents SYS_ADMIN, in-place: of BPF and PERFMON; auto: where the runtime knows no BPF, or conntrack is a module (at first: auto)",
        ).choices(["auto", "on", "off", "in-place"]),
      )
      .option(
        "--ignore-kube-proxy-config",
        "take no settings of kube-proxy over, and drop those that were taken over before",
        false,
      )
      .option("--no-test", "leave out the test at the end")
      .option(
        "--force",
        "take over fields of objects that others have written, and undo settings that no run has kept",
        false,
      )
      .addHelpText("after", KEPT),
  ).action(async (flags: InstallFlags) => {
    await runInstall(flags, wiring.stopSignal());
  });

  limits(
    common(
      program.command("uninstall").description("take Millrace out of a cluster, node after node, back to kube-proxy"),
    )
      .option("--dry-run", "say what would be done", false)
      .option("--drain-timeout <DURATION>", "how long connections of a node may go on; 0: not at all", "5m")
      .option("--node <NODE>", "give only this node back, and delete nothing; may be repeated", several)
      .option("--delete-crds", "also CustomResourceDefinitions of which there are objects, with those", false)
      .option("--without-proxy", "also where there is no kube-proxy to hand over to", false),
  ).action(async (flags: UninstallFlags) => {
    await runUninstallCommand(flags, wiring.stopSignal());
  });
}

function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** "" is none. */
function several(text: string, before: readonly string[] = []): string[] {
  return [...before, ...text.split(",").filter((one) => one !== "")];
}

function millisecondsOf(flag: string, text: string): number {
  const seconds = parseDuration(text);
  if (seconds === undefined)
    throw new Failure("usage", flag, `${flag} must be a time such as 5m or 90s: current value is '${text}'`);
  return seconds * 1000;
}

function parallelOf(text: string): number {
  const value = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (value < 1)
    throw new Failure("usage", "--parallel", `--parallel must be a number from 1: current value is '${text}'`);
  return value;
}

/** Why agents of this version cannot have a setting, checked as `millrace run` checks it; "" when they can. */
export function settingProblem(name: string, value: string): string {
  const setting = SETTINGS.find((one) => one.name === name);
  if (setting === undefined) {
    const known = SETTINGS.map((one) => one.name).filter((one) => !FIXED.includes(one));
    return `there is no such setting${didYouMean(name, known)}`;
  }
  if (FIXED.includes(name)) return "the installer decides it";
  try {
    setting.read(value);
  } catch (error) {
    if (!(error instanceof WrongValue)) throw error;
    return `it must be ${error.message}`;
  }
  return "";
}

/** The agents' settings of `--set`. @throws Failure "usage" */
export function settingsOf(set: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    set.map((text) => {
      const [, name, value = ""] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
      if (name === undefined)
        throw new Failure("usage", "--set", `--set must be NAME=VALUE, such as xdp=off: current value is '${text}'`);
      const problem = settingProblem(name, value);
      if (problem !== "") throw new Failure("usage", "--set", `could not use --set ${text}: ${problem}`);
      return [name, value];
    }),
  );
}

/** Beside the bundle; in the sources where the chart's is. */
const MANIFEST = [
  fileURLToPath(new URL("./deploy/millrace.yaml", import.meta.url)),
  fileURLToPath(new URL("../../deploy/millrace.yaml", import.meta.url)),
];

/** @throws Failure "machine" */
export function manifestSource(): string {
  for (const path of MANIFEST) {
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new Failure("machine", MANIFEST[0]!, `could not find ${MANIFEST[0]}: the build is incomplete`);
}

async function runInstall(flags: InstallFlags, signal: AbortSignal): Promise<void> {
  const { set = [] } = flags;
  const settings = settingsOf(set.filter((one) => one !== ""));
  const timeoutMs = millisecondsOf("--timeout", flags.timeout);
  const parallel = parallelOf(flags.parallel);
  const [{ openCluster, told }, { install }, { readManifest }, { confirmOnTerminal, createProgress }] =
    await Promise.all([
      import("../install/connect.ts"),
      import("../install/install.ts"),
      import("../install/manifest.ts"),
      import("./install-progress.ts"),
    ]);
  const manifest = readManifest(manifestSource(), "deploy/millrace.yaml");
  const cluster = await openCluster(flags.kubeconfig, flags.context);
  const progress = createProgress(process.stderr);
  try {
    await told(() =>
      install({
        api: cluster.api,
        clock: cluster.clock,
        ...{ signal, progress, manifest, timeoutMs },
        kubeconfigServer: cluster.server,
        options: {
          image: flags.image,
          imagePullSecrets: flags.imagePullSecret,
          apiServer: flags.apiserver,
          loadBalancerClass: flags.loadBalancerClass,
          besideMetallb: flags.besideMetallb,
          except: flags.except,
          sysAdmin: flags.sysAdmin,
          set: settings,
          isSetAnew: set.includes(""),
          selfTest: flags.test,
          force: flags.force,
          parallel,
        },
        dryRun: flags.dryRun ? (text) => void process.stdout.write(text) : undefined,
        confirm: (question) => confirmOnTerminal(question, flags.yes, signal),
        takeSettings: async (kubeProxy, set) => {
          const { ignoreKubeProxyConfig: isIgnored } = flags;
          const { settingsTaken } = await import("./taken-settings.ts");
          return settingsTaken(kubeProxy, { set, fixed: FIXED, isIgnored });
        },
        settingProblem,
      }),
    );
  } finally {
    progress.close();
    cluster.close();
  }
}

async function runUninstallCommand(flags: UninstallFlags, signal: AbortSignal): Promise<void> {
  const timeoutMs = millisecondsOf("--timeout", flags.timeout);
  const drainTimeoutMs = millisecondsOf("--drain-timeout", flags.drainTimeout);
  const parallel = parallelOf(flags.parallel);
  const [{ openCluster, told }, { runUninstall }, { readManifest }, { confirmOnTerminal, createProgress }] =
    await Promise.all([
      import("../install/connect.ts"),
      import("../install/run-uninstall.ts"),
      import("../install/manifest.ts"),
      import("./install-progress.ts"),
    ]);
  const manifest = readManifest(manifestSource(), "deploy/millrace.yaml");
  const cluster = await openCluster(flags.kubeconfig, flags.context);
  const progress = createProgress(process.stderr);
  try {
    await told(() =>
      runUninstall({
        api: cluster.api,
        clock: cluster.clock,
        ...{ signal, progress, manifest, timeoutMs, drainTimeoutMs },
        kubeconfigServer: cluster.server,
        options: {
          drainTimeout: flags.drainTimeout,
          deleteCrds: flags.deleteCrds,
          withoutProxy: flags.withoutProxy,
          parallel,
          only: flags.node ?? [],
        },
        isDryRun: flags.dryRun,
        confirm: (question) => confirmOnTerminal(question, flags.yes, signal),
      }),
    );
  } finally {
    progress.close();
    cluster.close();
  }
}
