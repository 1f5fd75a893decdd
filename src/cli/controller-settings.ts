// The settings of `millrace controller`, in the table's form of `millrace run`: those that both have are the same ones.
import type { ControllerOptions } from "../controller/options.ts";
import { parseDuration } from "../lib/duration.ts";
import { dnsName, oneOf, WrongValue, wholeNumber } from "./setting-values.ts";
import { SETTINGS, type Setting } from "./settings.ts";

type ControllerSetting = Setting<ControllerOptions>;

/** A setting that the agent has too; `more` is what is different about it here. */
function shared(name: string, more: Partial<ControllerSetting> = {}): ControllerSetting {
  const found = SETTINGS.find((one) => one.name === name);
  if (found === undefined) throw new Error(`there is no setting ${name}`);
  return { ...(found as unknown as ControllerSetting), ...more };
}

function setting(
  name: string,
  placeholder: string,
  value: string,
  help: string,
  read: ControllerSetting["read"],
): ControllerSetting {
  return { name, placeholder, list: false, defaultText: value, help, defaultValue: () => value, read };
}

function bindAddress(
  name: "healthz-bind-address" | "metrics-bind-address",
  value: string,
  help: string,
): ControllerSetting {
  return shared(name, { defaultText: value, defaultValue: () => value, help });
}

function milliseconds(text: string, least: number, most: number): number {
  const seconds = parseDuration(text);
  if (seconds === undefined || seconds < least || seconds > most)
    throw new WrongValue(`a time from ${least}s to ${most}s`);
  return seconds * 1000;
}

/** Every setting, in the order of the help. */
export const CONTROLLER_SETTINGS: readonly ControllerSetting[] = [
  shared("kubeconfig"),
  shared("apiserver", { defaultText: "the kubeconfig's, or what the pod's environment says" }),
  shared("namespace", { help: "namespace of its Lease, its Secret and its ConfigurationState" }),
  shared("load-balancer-class", { help: "spec.loadBalancerClass of the Services that are given addresses" }),
  setting(
    "beside-metallb",
    "",
    "false",
    "give addresses while MetalLB's controller or speakers run: for a MetalLB that leaves Services without a class alone",
    (text) => ({ besideMetallb: oneOf(text, ["true", "false"]) === "true" }),
  ),
  setting("lease-name", "NAME", "millrace-controller", "name of the Lease by which one of several leads", (text) => ({
    leaseName: dnsName(text, "the name of a Lease"),
  })),
  setting(
    "lease-duration",
    "DURATION",
    "15s",
    "how long others wait for a leader that does not renew the Lease",
    (text) => ({
      leaseDurationMs: milliseconds(text, 2, 3600),
    }),
  ),
  setting(
    "lease-renew-deadline",
    "DURATION",
    "10s",
    "how long a leader that cannot renew the Lease goes on leading",
    (text) => ({
      leaseRenewDeadlineMs: milliseconds(text, 1, 3600),
    }),
  ),
  setting("lease-retry-period", "DURATION", "2s", "how often the Lease is renewed, or looked at", (text) => ({
    leaseRetryMs: milliseconds(text, 1, 3600),
  })),
  setting(
    "writes-per-second",
    "N",
    "50",
    "addresses that are written in a second at most, after a hundred at once",
    (text) => ({
      writesPerSecond: wholeNumber(text, 1, 10_000),
    }),
  ),
  setting(
    "announcer-secret-name",
    "NAME",
    "millrace-announcer",
    "name of the Secret with the announcers' keys, which it makes; empty: none is made",
    (text) => ({ secretName: text === "" ? "" : dnsName(text, "the name of a Secret") }),
  ),
  setting(
    "rotate-secret-after",
    "DURATION",
    "0",
    "age at which the announcers' key is replaced, step by step; 0: when the Secret has the annotation millrace.io/rotate",
    (text) => {
      const seconds = parseDuration(text);
      if (seconds === undefined || (seconds !== 0 && seconds < 3600))
        throw new WrongValue("a time from 1h, such as 720h, or 0");
      return { rotateSecretAfterMs: seconds * 1000 };
    },
  ),
  bindAddress("healthz-bind-address", "0.0.0.0:10246", "/healthz, /livez and /status; empty: none"),
  bindAddress("metrics-bind-address", "0.0.0.0:10247", "/metrics; empty: none"),
  shared("log-format"),
  shared("log-level"),
];
