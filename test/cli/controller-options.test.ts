// The controller's options: defaults, precedence, and what is refused.
import { expect, test } from "vitest";
import { readControllerOptions } from "../../src/cli/controller-options.ts";
import { CONTROLLER_SETTINGS } from "../../src/cli/controller-settings.ts";

const read = (flags: Readonly<Record<string, string>> = {}, environment: Readonly<Record<string, string>> = {}) =>
  readControllerOptions({ flags, environment, configFile: "" });

test("these are the defaults, one for each setting", () => {
  expect(read()).toEqual({
    kubeconfig: "",
    apiServer: "",
    stateDir: "/var/lib/millrace",
    namespace: "kube-system",
    loadBalancerClass: "",
    besideMetallb: false,
    leaseName: "millrace-controller",
    leaseDurationMs: 15_000,
    leaseRenewDeadlineMs: 10_000,
    leaseRetryMs: 2_000,
    writesPerSecond: 50,
    secretName: "millrace-announcer",
    rotateSecretAfterMs: 0,
    healthzBindAddress: "0.0.0.0:10246",
    metricsBindAddress: "0.0.0.0:10247",
    logFormat: "auto",
    logLevel: "info",
  });
  expect(CONTROLLER_SETTINGS).toHaveLength(Object.keys(read()).length - 1);
});

test("flags come before the environment, and that before defaults", () => {
  const environment = { MILLRACE_LEASE_NAME: "two", MILLRACE_NAMESPACE: "lb" };
  expect(read({ "lease-name": "one" }, environment)).toMatchObject({ leaseName: "one", namespace: "lb" });
});

test.each([
  [{ "lease-duration": "10s" }, "--lease-duration must be longer than --lease-renew-deadline"],
  [{ "lease-retry-period": "10s" }, "current values are 15s, 10s, 10s"],
  [{ "lease-duration": "soon" }, "--lease-duration must be a time from 2s to 3600s: current value is 'soon'"],
  [
    { "rotate-secret-after": "5m" },
    "--rotate-secret-after must be a time from 1h, such as 720h, or 0: current value is '5m'",
  ],
  [{ "writes-per-second": "0" }, "--writes-per-second must be a whole number from 1 to 10000: current value is '0'"],
  [{ "announcer-secret-name": "A_b" }, "--announcer-secret-name must be the name of a Secret"],
  [{ "load-balancer-class": "not one" }, "--load-balancer-class must be a class such as example.com/lb"],
  [{ "healthz-bind-address": "10246" }, "--healthz-bind-address must be ADDRESS:PORT"],
])("%j is refused by name", (flags, told) => {
  expect(() => read(flags as Record<string, string>)).toThrow(told);
});
