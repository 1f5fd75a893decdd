// `millrace install` and `millrace uninstall`: a whole cluster, from a person's kubeconfig.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Command, Option } from "commander";
import { parseDuration } from "../lib/duration.ts";
import { Failure } from "../lib/errors.ts";
import type { Wiring } from "./program.ts";
import { SETTINGS, WrongValue } from "./settings.ts";

interface CommonFlags {
  readonly kubeconfig: string;
  readonly context: string;
  readonly yes: boolean;
  readonly dryRun: boolean;
  readonly parallel: string;
  readonly timeout: string;
}

interface InstallFlags extends CommonFlags {
  readonly image: string;
  readonly apiserver: string;
  readonly loadBalancerClass: string;
  readonly besideMetallb: boolean;
  readonly ignoreKubeProxyConfig: boolean;
  readonly except: readonly string[];
  readonly sysAdmin: "auto" | "on" | "off";
  readonly set: readonly string[];
  readonly test: boolean;
  readonly force: boolean;
}

interface UninstallFlags extends CommonFlags {
  readonly drainTimeout: string;
  readonly node: readonly string[];
  readonly deleteCrds: boolean;
  readonly withoutProxy: boolean;
}

/** Decided by the DaemonSet, by other flags, or one node's own. */
export const FIXED: readonly string[] = [
  ...["manifests", "kubeconfig", "apiserver", "namespace", "load-balancer-class", "with-controller", "read-only"],
  ...["cluster-domain", "node-name", "state-dir", "pin-dir", "api-socket", "cgroup", "announcer-secret"],
];

export function registerInstallCommands(program: Command, wiring: Wiring): void {
  const several = (text: string, before: readonly string[]): string[] => [...before, ...text.split(",")];
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
      .option("--image <IMAGE>", "image of agents and controller (default: of this version)", "")
      .option("--apiserver <URL>", "where nodes reach the API server without Services (default: found)", "")
      .option("--load-balancer-class <CLASS>", "spec.loadBalancerClass of the Services that are given addresses", "")
      .option("--beside-metallb", "leave the Services without a class to the MetalLB that runs", false)
      .option("--ignore-kube-proxy-config", "take no settings of kube-proxy over", false)
      .option("--except <NODE>", "leave this node to kube-proxy; may be repeated", several, [])
      .option("--set <NAME=VALUE>", "a setting of the agents, as of millrace run; may be repeated", collect, [])
      .addOption(
        new Option(
          "--sys-admin <WHEN>",
          "give the agents SYS_ADMIN; auto: where the runtime knows no BPF, or conntrack is a module",
        )
          .choices(["auto", "on", "off"])
          .default("auto"),
      )
      .option("--no-test", "leave out the test at the end")
      .option("--force", "take over fields of objects that others have written", false),
  ).action(async (flags: InstallFlags) => {
    await runInstall(flags, wiring.stopSignal());
  });

  limits(
    common(
      program.command("uninstall").description("take Millrace out of a cluster, node after node, back to kube-proxy"),
    )
      .option("--dry-run", "say what would be done", false)
      .option("--drain-timeout <DURATION>", "how long connections of a node may go on; 0: not at all", "5m")
      .option("--node <NODE>", "give only this node back, and delete nothing; may be repeated", several, [])
      .option("--delete-crds", "also CustomResourceDefinitions of which there are objects, with those", false)
      .option("--without-proxy", "also where there is no kube-proxy to hand over to", false),
  ).action(async (flags: UninstallFlags) => {
    await runUninstallCommand(flags, wiring.stopSignal());
  });
}

function collect(text: string, before: readonly string[]): string[] {
  return [...before, text];
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

/** The agents' settings of `--set`, checked as `millrace run` checks them. @throws Failure "usage" */
export function settingsOf(set: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    set.map((text) => {
      const [, name = "", value = ""] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
      const setting = SETTINGS.find((one) => one.name === name);
      if (setting === undefined || FIXED.includes(name)) {
        const why = setting === undefined ? "there is no such setting" : "the installer decides it";
        throw new Failure("usage", "--set", `could not use --set ${text}: ${why}`);
      }
      try {
        setting.read(value);
      } catch (error) {
        if (!(error instanceof WrongValue)) throw error;
        throw new Failure("usage", "--set", `--set ${name} must be ${error.message}: current value is '${value}'`);
      }
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
  const set = settingsOf(flags.set);
  const timeoutMs = millisecondsOf("--timeout", flags.timeout);
  const parallel = parallelOf(flags.parallel);
  const [{ openCluster, told }, { install }, { readManifest }, { confirmOnTerminal, createProgress }, { systemClock }] =
    await Promise.all([
      import("../install/connect.ts"),
      import("../install/install.ts"),
      import("../install/manifest.ts"),
      import("./install-progress.ts"),
      import("../install/clock.ts"),
    ]);
  const manifest = readManifest(manifestSource(), "deploy/millrace.yaml");
  const cluster = await openCluster(flags.kubeconfig, flags.context);
  const progress = createProgress(process.stderr);
  try {
    await told(() =>
      install({
        api: cluster.api,
        clock: systemClock,
        ...{ signal, progress, manifest, timeoutMs },
        kubeconfigServer: cluster.server,
        options: {
          image: flags.image,
          apiServer: flags.apiserver,
          loadBalancerClass: flags.loadBalancerClass,
          besideMetallb: flags.besideMetallb,
          except: flags.except,
          sysAdmin: flags.sysAdmin,
          selfTest: flags.test,
          parallel,
        },
        force: flags.force,
        dryRun: flags.dryRun ? (text) => void process.stdout.write(text) : undefined,
        confirm: (question) => confirmOnTerminal(question, flags.yes, signal),
        takeSettings: async (kubeProxy) => {
          const { ignoreKubeProxyConfig: isIgnored } = flags;
          const { settingsTaken } = await import("./taken-settings.ts");
          return settingsTaken(kubeProxy, { set, fixed: FIXED, isIgnored });
        },
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
  const [
    { openCluster, told },
    { runUninstall },
    { readManifest },
    { confirmOnTerminal, createProgress },
    { systemClock },
  ] = await Promise.all([
    import("../install/connect.ts"),
    import("../install/run-uninstall.ts"),
    import("../install/manifest.ts"),
    import("./install-progress.ts"),
    import("../install/clock.ts"),
  ]);
  const manifest = readManifest(manifestSource(), "deploy/millrace.yaml");
  const cluster = await openCluster(flags.kubeconfig, flags.context);
  const progress = createProgress(process.stderr);
  try {
    await told(() =>
      runUninstall({
        api: cluster.api,
        clock: systemClock,
        ...{ signal, progress, manifest, timeoutMs, drainTimeoutMs },
        kubeconfigServer: cluster.server,
        options: {
          drainTimeout: flags.drainTimeout,
          deleteCrds: flags.deleteCrds,
          withoutProxy: flags.withoutProxy,
          parallel,
          only: flags.node,
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
