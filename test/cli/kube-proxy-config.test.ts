// kube-proxy's configuration and flags as ours: every one that there is is taken, or named as ignored.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { kubeProxyPage } from "../../scripts/kube-proxy-page.ts";
import { ignoredNotices } from "../../src/agent/machine.ts";
import { mergeOptions, readAgentOptions } from "../../src/cli/agent-options.ts";
import { parseConfig, readConfigFile } from "../../src/cli/config-file.ts";
import { KUBE_PROXY_FLAGS, takeKubeProxyFlags } from "../../src/cli/kube-proxy-flags.ts";
import { KUBE_PROXY_SETTINGS } from "../../src/cli/kube-proxy-settings.ts";
import { asKubeProxyArgs } from "../../src/cli/program.ts";
import { SETTINGS } from "../../src/cli/settings.ts";

const FIXTURES = resolve(import.meta.dirname, "kube-proxy");
const fixture = (name: string): string => readFileSync(join(FIXTURES, name), "utf8");
const machine = { nodeName: "host", cgroup: "/sys/fs/cgroup", memoryBytes: 8 * 2 ** 30, cpus: 2 };
const HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

const directory = mkdtempSync(join(tmpdir(), "millrace-kube-proxy-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The options that a configuration of kube-proxy makes, beside flags of ours. */
function optionsOf(text: string, flags: Record<string, string> = {}) {
  const { path, values, fields } = parseConfig(text, "kp.yaml");
  return mergeOptions({ flags, environment: {}, configFile: path, fields }, values, machine);
}

const configWith = (field: string, value: unknown) => parseConfig(flowYaml(field, value), "kp.yaml");
/** JSON is YAML. */
function flowYaml(field: string, value: unknown): string {
  const [last = "", ...before] = field.split(".").reverse();
  const nested = before.reduce<unknown>((inner, key) => ({ [key]: inner }), { [last]: value });
  return JSON.stringify({ ...(parse(HEAD) as object), ...(nested as object) });
}

describe("a field of KubeProxyConfiguration", () => {
  it.each([
    ["clientConnection.kubeconfig", "/etc/k.conf", { kubeconfig: "/etc/k.conf" }],
    ["hostnameOverride", " Node-7 ", { nodeName: "node-7" }],
    ["healthzBindAddress", "127.0.0.1:1", { healthzBindAddress: "127.0.0.1:1" }],
    ["healthzBindAddress", "127.0.0.1", { healthzBindAddress: "127.0.0.1:10256" }],
    ["healthzBindAddress", "", { healthzBindAddress: "0.0.0.0:10256" }],
    ["metricsBindAddress", "0.0.0.0", { metricsBindAddress: "0.0.0.0:10249" }],
    ["bindAddress", "::", { healthzBindAddress: "[::]:10256", metricsBindAddress: "[::1]:10249" }],
    ["nodePortAddresses", ["primary"], { nodePortAddresses: ["primary"] }],
    ["nodePortAddresses", ["10.0.0.0/8", "localhost"], { nodePortAddresses: ["10.0.0.0/8", "localhost"] }],
    ["nodePortAddresses", null, { nodePortAddresses: ["all", "localhost"] }],
    ["iptables.localhostNodePorts", false, { nodePortAddresses: ["all"] }],
    ["mode", "iptables", { nodePortAddresses: ["all", "localhost"] }],
    ["mode", "ipvs", { nodePortAddresses: ["all"] }],
    ["mode", "nftables", { nodePortAddresses: ["primary"] }],
    ["conntrack.maxPerCore", 0, { conntrackMaxPerCore: 0 }],
    ["conntrack.maxPerCore", null, { conntrackMaxPerCore: undefined }],
    ["conntrack.min", 1000, { conntrackMin: 1000 }],
    ["conntrack.tcpEstablishedTimeout", "12h0m0s", { conntrackEstablishedSeconds: 43_200 }],
    ["conntrack.tcpCloseWaitTimeout", "1.5h", { conntrackCloseWaitSeconds: 5400 }],
    ["conntrack.tcpCloseWaitTimeout", "0s", { conntrackCloseWaitSeconds: 0 }],
    ["conntrack.tcpBeLiberal", true, { conntrackTcpBeLiberal: true }],
    ["conntrack.udpTimeout", "45s", { conntrackUdpSeconds: 45 }],
    ["conntrack.udpStreamTimeout", "2m30s", { conntrackUdpStreamSeconds: 150 }],
    ["logging.format", "json", { logFormat: "json" }],
    ["logging.verbosity", 2, { logLevel: "info" }],
    ["logging.verbosity", 4, { logLevel: "debug" }],
  ] as const)("is taken: %s %j", (field, value, expected) => {
    expect(configWith(field, value).ignored).toEqual([]);
    expect(optionsOf(flowYaml(field, value))).toMatchObject(expected);
  });

  /** A value for each form that asks for something. */
  const ASKING = {
    text: "x",
    switch: true,
    number: 7,
    duration: "7s",
    texts: ["10.0.0.0/8"],
    gates: { A: true },
    any: "7",
  } as const;
  const ignored = KUBE_PROXY_SETTINGS.filter(
    ({ field, takenAs }) => field !== undefined && takenAs === undefined,
  ).filter(({ field }) => field !== "mode" && field !== "iptables.localhostNodePorts" && field !== "bindAddress");

  it.each(ignored.map((one) => [one.field!, one] as const))("is named as ignored: %s", (field, setting) => {
    const value = setting.choices?.at(-1) ?? ASKING[setting.form];
    const found = configWith(field, value);
    expect(found.ignored).toEqual([
      { from: `${field} in kp.yaml`, why: setting.note, missed: setting.missed ?? false },
    ]);
    expect(setting.note?.length).toBeGreaterThan(10);
    // Nothing but the default of node ports comes of it.
    expect(Object.keys(found.values)).toEqual(["nodeport-addresses"]);
    for (const nothing of [null, setting.usual ?? null]) expect(configWith(field, nothing).ignored).toEqual([]);
  });

  it("is named as ignored where it does not decide what it decides alone: bindAddress", () => {
    expect(configWith("bindAddress", "10.0.0.1").ignored).toMatchObject([{ from: "bindAddress in kp.yaml" }]);
    expect(configWith("bindAddress", "0.0.0.0").ignored).toEqual([]);
  });

  it.each([
    ["conntrack", 1, "conntrack in kp.yaml must be a mapping: current value is '1'"],
    ["conntrack.min", "many", "conntrack.min in kp.yaml must be a number: current value is 'many'"],
    ["conntrack.min", 1.5, "conntrack.min in kp.yaml must be a whole number from 0"],
    ["conntrack.min", -1, "conntrack.min in kp.yaml must be a whole number from 0"],
    ["conntrack.udpTimeout", "-1s", "conntrack.udpTimeout in kp.yaml must be a time such as 24h0m0s"],
    ["conntrack.udpTimeout", 30, "conntrack.udpTimeout in kp.yaml must be a time such as 24h0m0s"],
    ["conntrack.tcpBeLiberal", "yes", "conntrack.tcpBeLiberal in kp.yaml must be true or false"],
    ["mode", "ebpf", "mode in kp.yaml must be one of iptables, ipvs, nftables"],
    ["detectLocalMode", "Node", "detectLocalMode in kp.yaml must be one of ClusterCIDR"],
    ["nodePortAddresses", "primary", "nodePortAddresses in kp.yaml must be a list of texts"],
    ["nodePortAddresses", ["eth0"], "nodePortAddresses in kp.yaml must be primary, localhost, all and CIDRs"],
    ["featureGates", { A: "yes" }, "featureGates in kp.yaml must be a mapping of names to true or false"],
    ["bindAddress", "eth0", "bindAddress in kp.yaml must be an address: current value is 'eth0'"],
    ["hostnameOverride", "a_b", "hostnameOverride in kp.yaml must be the name of a Node"],
    ["healthzBindAddress", "10256", "healthzBindAddress in kp.yaml must be ADDRESS:PORT"],
    ["logging.format", "xml", "logging.format in kp.yaml must be one of text, json"],
    ["clientConnection.kubeconfig", "k.conf", "clientConnection.kubeconfig in kp.yaml must be an absolute path"],
  ] as const)("is refused: %s %j", (field, value, message) => {
    expect(() => optionsOf(flowYaml(field, value))).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
    );
  });

  it.each([
    ["masqueradeAll: true", "masqueradeAll in kp.yaml, line 3", "KubeProxyConfiguration has no field 'masqueradeAll'"],
    [
      "conntrack:\n  maxPerCores: 1",
      "conntrack.maxPerCores in kp.yaml, line 4",
      "KubeProxyConfiguration has no field 'conntrack.maxPerCores'; did you mean conntrack.maxPerCore?",
    ],
    [
      "udpIdleTimeout: null",
      "udpIdleTimeout in kp.yaml, line 3",
      "KubeProxyConfiguration has no field 'udpIdleTimeout'",
    ],
    ["mode: ipvs\nmode: nftables", "mode in kp.yaml, line 3", "it is there again in line 4, and the last one counts"],
    [
      "conntrack:\n  min: 1\n  min: 2",
      "conntrack.min in kp.yaml, line 4",
      "it is there again in line 5, and the last one counts",
    ],
  ])("is ignored with its place, as kube-proxy does, where it is not known or there again: %j", (lines, from, why) => {
    const read = parseConfig(`${HEAD}${lines}\nhostnameOverride: a\n`, "kp.yaml");
    expect(read.ignored).toEqual([{ from, why, missed: true }]);
    expect(read.values["node-name"]).toBe("a");
    if (lines.includes("nftables")) expect(read.values["nodeport-addresses"]).toBe("primary");
    if (lines.includes("min: 2")) expect(read.values["conntrack-min"]).toBe("2");
  });

  it("is ignored with its place in a ConfigMap", () => {
    const map = { apiVersion: "v1", kind: "ConfigMap", data: { "config.conf": `${HEAD}modes: ipvs\n` } };
    expect(parseConfig(JSON.stringify(map), "kp.yaml").ignored).toMatchObject([
      { from: "modes in config.conf in kp.yaml, line 3", why: expect.stringMatching(/did you mean mode\?$/) },
    ]);
  });

  it("loses to a flag of ours", () => {
    expect(optionsOf(flowYaml("hostnameOverride", "a"), { "node-name": "b" }).nodeName).toBe("b");
  });
});

describe("a configuration file of a kind", () => {
  it.each([
    ["another kind", "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: Kubelet\n", "it is of kind Kubelet of kube"],
    [
      "another version",
      "apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n",
      "v1alpha1, a ConfigMap",
    ],
    ["no kind", "apiVersion: v1\n", "it is of kind (none) of v1"],
    [
      "a ConfigMap of something else",
      "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n",
      "no key config.conf, which kubeadm gives kube-proxy's configuration; keys: a",
    ],
    [
      "a ConfigMap with a wrong value",
      `apiVersion: v1\nkind: ConfigMap\ndata:\n  config.conf: '{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": 1}'\n`,
      "mode in config.conf in kp.yaml must be a text",
    ],
    ["our own with a key twice", "log-level: warn\nlog-level: info\n", "kp.yaml: Map keys must be unique at line 2"],
    [
      "a ConfigMap with a key twice",
      "kind: ConfigMap\nkind: ConfigMap\n",
      "kp.yaml: Map keys must be unique at line 2",
    ],
  ])("is refused: %s", (_name, text, message) => {
    expect(() => parseConfig(text, "kp.yaml")).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
    );
  });

  it("knows every field that kube-proxy 1.37 writes, and takes its defaults for no wish", () => {
    const text = fixture("defaults-1.37.yaml");
    const { values, ignored } = parseConfig(text, "kp.yaml");
    expect(ignored).toEqual([]);
    expect(values).toEqual({
      "conntrack-max-per-core": "32768",
      "conntrack-min": "131072",
      "conntrack-tcp-timeout-close-wait": "1h0m0s",
      "conntrack-tcp-timeout-established": "24h0m0s",
      "conntrack-udp-timeout": "0s",
      "conntrack-udp-timeout-stream": "0s",
      "healthz-bind-address": "0.0.0.0:10256",
      "log-format": "text",
      "metrics-bind-address": "127.0.0.1:10249",
      "nodeport-addresses": "all,localhost",
    });
    const leaves = (value: unknown, path: string): string[] =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.entries(value).flatMap(([key, inner]) => leaves(inner, path === "" ? key : `${path}.${key}`))
        : [path];
    const written = leaves(parse(text), "").filter((field) => field !== "apiVersion" && field !== "kind");
    // Those that it leaves out when they are empty.
    const omitted = [
      ...["featureGates", "windowsRunAsService", "logging.vmodule"],
      ...["logging.options.text.splitStream", "logging.options.json.splitStream"],
    ];
    const known = KUBE_PROXY_SETTINGS.flatMap(({ field }) => field ?? []);
    expect([...written, ...omitted].sort()).toEqual(known.sort());
  });
});

describe("kubeadm's ConfigMap", () => {
  const stateDir = join(directory, "state");
  beforeEach(() => rmSync(stateDir, { recursive: true, force: true }));
  const read = (configFile: string, flags: Record<string, string> = {}) =>
    readAgentOptions({ flags: { cgroup: "/c", "state-dir": stateDir, ...flags }, environment: {}, configFile });

  it("of 1.34 is taken as it is, and its kubeconfig with it", async () => {
    const path = join(directory, "kube-proxy-1.34.yaml");
    writeFileSync(path, fixture("kubeadm-1.34.yaml"));
    const options = await read(path, { "node-name": "n1" });
    expect(options).toMatchObject({
      nodeName: "n1",
      kubeconfig: join(stateDir, "kubeconfig.conf"),
      healthzBindAddress: "0.0.0.0:10256",
      metricsBindAddress: "127.0.0.1:10249",
      nodePortAddresses: ["all", "localhost"],
      conntrackMaxPerCore: undefined,
      ignored: [{ from: `clusterCIDR in config.conf in ${path}`, missed: false }],
    });
    const kubeconfig = parse(readFileSync(options.kubeconfig, "utf8"));
    expect(kubeconfig.clusters[0].cluster.server).toBe("https://192.168.122.11:6443");
  });

  it("of 1.37 in dual stack likewise", async () => {
    const path = join(directory, "kube-proxy-1.37.yaml");
    writeFileSync(path, fixture("kubeadm-1.37.yaml"));
    expect(await read(path)).toMatchObject({
      healthzBindAddress: "[::]:10256",
      metricsBindAddress: "[::1]:10249",
      nodePortAddresses: ["all", "localhost"],
      ignored: [{ from: `clusterCIDR in config.conf in ${path}` }],
    });
  });

  it("is taken as it is mounted: the directory, and the kubeconfig beside the configuration", async () => {
    const mounted = join(directory, "mounted");
    mkdirSync(mounted);
    const { data } = parse(fixture("kubeadm-1.34.yaml"));
    for (const [key, text] of Object.entries(data)) writeFileSync(join(mounted, key), text as string);
    for (const given of [mounted, join(mounted, "config.conf")]) {
      const found = await readConfigFile(given);
      expect([found.path, found.values["kubeconfig"], found.kubeconfigText]).toEqual([
        join(mounted, "config.conf"),
        join(mounted, "kubeconfig.conf"),
        "",
      ]);
    }
  });

  it("names its own kubeconfig when that is nowhere", async () => {
    const alone = join(directory, "alone");
    mkdirSync(alone);
    writeFileSync(join(alone, "config.conf"), parse(fixture("kubeadm-1.34.yaml")).data["config.conf"]);
    expect((await read(alone)).kubeconfig).toBe("/var/lib/kube-proxy/kubeconfig.conf");
  });

  it("keeps its kubeconfig to itself when another one is given", async () => {
    const path = join(directory, "kube-proxy-1.34.yaml");
    writeFileSync(path, fixture("kubeadm-1.34.yaml"));
    expect((await read(path, { kubeconfig: "/etc/own.conf" })).kubeconfig).toBe("/etc/own.conf");
    expect(() => readFileSync(join(stateDir, "kubeconfig.conf"))).toThrow("ENOENT");
  });

  it("and manifests are two sources", async () => {
    const path = join(directory, "kube-proxy-1.34.yaml");
    writeFileSync(path, fixture("kubeadm-1.34.yaml"));
    await expect(read(path, { manifests: directory })).rejects.toThrow(
      `could not use --manifests together with clientConnection.kubeconfig in config.conf in ${path}`,
    );
  });
});

describe("a flag of kube-proxy", () => {
  const flagsOf = (theirs: Record<string, string>, ours: Record<string, string> = {}) =>
    takeKubeProxyFlags(ours, theirs);

  it("is one of ours, taken as one, or named as ignored: all of 1.37", () => {
    const lines = fixture("flags-1.37.txt").split("\n");
    const all = lines.filter((line) => line !== "" && !line.startsWith("#"));
    expect(all.length).toBeGreaterThan(55);
    const known = [
      ...KUBE_PROXY_FLAGS.map(({ flag }) => flag),
      ...KUBE_PROXY_SETTINGS.flatMap(({ flag }) => (SETTINGS.some(({ name }) => name === flag) ? [flag!] : [])),
      // Commander's.
      ...["config", "help", "version"],
    ];
    expect(known.sort()).toEqual(all.sort());
  });

  it.each([
    [{ "hostname-override": " N1 " }, {}, { "node-name": "n1" }],
    [{ "hostname-override": "" }, {}, {}],
    [{ master: "https://h:6443" }, {}, { apiserver: "https://h:6443" }],
    [{ v: "2" }, {}, {}],
    [{ v: "5" }, {}, { "log-level": "debug" }],
    [{ "logging-format": "json" }, {}, { "log-format": "json" }],
    [{ "healthz-port": "0" }, { "healthz-bind-address": "127.0.0.1:1" }, { "healthz-bind-address": "" }],
    [{ "metrics-port": "0" }, {}, { "metrics-bind-address": "" }],
    [{ "metrics-port": "9" }, { "metrics-bind-address": "::" }, { "metrics-bind-address": "[::]:9" }],
    [{ "healthz-port": "9" }, { "healthz-bind-address": "[::]" }, { "healthz-bind-address": "[::]:9" }],
    [{ "healthz-port": "9" }, { "healthz-bind-address": "0.0.0.0" }, { "healthz-bind-address": "0.0.0.0:9" }],
  ] as [Record<string, string>, Record<string, string>, Record<string, string>][])(
    "is taken: %j beside %j",
    (theirs, ours, flags) => {
      expect(flagsOf(theirs, ours)).toMatchObject({ flags: { ...ours, ...flags }, ignored: [] });
    },
  );

  it.each([
    ["masquerade-all", "true", { missed: false }],
    ["bind-address-hard-fail", "true", { missed: true }],
    ["cleanup", "true", { missed: true, why: expect.stringContaining("millrace cleanup --kube-proxy") }],
    ["cluster-cidr", "10.244.0.0/16", { missed: false }],
    ["kube-api-qps", "20", { missed: false }],
    ["feature-gates", "A=true", { missed: false }],
    ["healthz-port", "10256", { why: expect.stringContaining("has a port") }],
  ])("is named as ignored: --%s=%s", (flag, text, expected) => {
    expect(flagsOf({ [flag]: text }).ignored).toMatchObject([{ from: `--${flag}`, ...expected }]);
  });

  it.each([
    ["masquerade-all", "false"],
    ["iptables-localhost-nodeports", "true"],
    ["profiling", "false"],
    ["bind-address", "0.0.0.0"],
    ["kube-api-qps", "5"],
  ])("that asks for what is usual is not named: --%s=%s", (flag, text) => {
    expect(flagsOf({ [flag]: text }).ignored).toEqual([]);
  });

  it.each([
    [{ "proxy-mode": "iptables" }, {}, "all,localhost"],
    [{ "proxy-mode": "" }, {}, "all,localhost"],
    [{ "proxy-mode": "ipvs" }, {}, "all"],
    [{ "proxy-mode": "nftables" }, {}, "primary"],
    [{ "iptables-localhost-nodeports": "false" }, {}, "all"],
    [{ "iptables-localhost-nodeports": "true" }, {}, undefined],
    [{ "proxy-mode": "iptables", "iptables-localhost-nodeports": "false" }, {}, "all"],
    [{ "proxy-mode": "iptables" }, { "nodeport-addresses": "10.0.0.0/8" }, "10.0.0.0/8"],
    [
      { "proxy-mode": "iptables", "iptables-localhost-nodeports": "false" },
      { "nodeport-addresses": "primary,localhost" },
      "primary",
    ],
  ] as [Record<string, string>, Record<string, string>, string | undefined][])(
    "counts for where node ports answer as it does in a configuration: %j beside %j",
    (theirs, ours, addresses) => {
      const found = flagsOf(theirs, ours);
      expect(found.flags["nodeport-addresses"]).toBe(addresses);
      expect(found.ignored).toEqual([]);
    },
  );

  it("counts for no node ports where the environment or a file says which, and that is told", async () => {
    const kubeProxyFlags = { "proxy-mode": "iptables" };
    const path = join(directory, "own.yaml");
    writeFileSync(path, "nodeport-addresses: primary\n");
    const read = (environment: Record<string, string>, configFile: string) =>
      readAgentOptions({ flags: { cgroup: "/c" }, kubeProxyFlags, environment, configFile });
    expect(await read({}, "")).toMatchObject({ nodePortAddresses: ["all", "localhost"], ignored: [] });
    const told = [{ from: "--proxy-mode", why: expect.stringContaining("says nodeport-addresses"), missed: false }];
    expect(await read({}, path)).toMatchObject({ nodePortAddresses: ["primary"], ignored: told });
    expect(await read({ MILLRACE_NODEPORT_ADDRESSES: "primary" }, "")).toMatchObject({ ignored: told });
  });

  it("loses to one of ours that says the same", () => {
    const found = flagsOf({ "hostname-override": "a", v: "9" }, { "node-name": "b", "log-level": "warn" });
    expect(found.flags).toEqual({ "node-name": "b", "log-level": "warn" });
    expect(found.ignored.map(({ from }) => from)).toEqual(["--hostname-override", "--v"]);
  });

  it.each([
    ["masquerade-all", "maybe", "--masquerade-all must be true or false: current value is 'maybe'"],
    ["v", "loud", "--v must be a number"],
    ["healthz-port", "70000", "--healthz-port must be a port"],
    ["iptables-sync-period", "soon", "--iptables-sync-period must be a time"],
    ["proxy-mode", "ebpf", "--proxy-mode must be one of iptables"],
  ])("is refused: --%s=%s", (flag, text, message) => {
    expect(() => flagsOf({ [flag]: text })).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
    );
  });

  it("is called by its own name when its value cannot be", async () => {
    const sources = { flags: { cgroup: "/c" }, environment: {}, configFile: "" };
    await expect(readAgentOptions({ ...sources, kubeProxyFlags: { master: "h:6443" } })).rejects.toThrow(
      "--master must be https://HOST:PORT",
    );
  });
});

it("the command line takes kube-proxy's flags in its forms", () => {
  const main = resolve(import.meta.dirname, "../../src/main.ts");
  const args = ["run", "-v=4", "--masquerade-all", "--profiling=false", "--ipvs-exclude-cidrs", "10.0.0.0/8"];
  const ran = spawnSync(process.execPath, [main, ...args, "--hostname-override", "a_b"], { encoding: "utf8" });
  expect(ran.stderr).toContain("--hostname-override must be the name of a Node");
  expect(ran.status).toBe(2);
  const unknown = spawnSync(process.execPath, [main, "run", "--masquerade-some"], { encoding: "utf8" });
  expect(unknown.stderr).toContain("unknown option '--masquerade-some'");
});

it("the command line takes an underscore for a hyphen in the flags of run alone, as kube-proxy does", () => {
  const run = (...args: string[]) => asKubeProxyArgs(["run", ...args]);
  expect(run("--proxy_mode=iptables", "--hostname_override", "a_b", "--state-dir=/a_b", "-v=4")).toEqual([
    ...["run", "--proxy-mode=iptables", "--hostname-override", "a_b", "--state-dir=/a_b", "-v=4"],
  ]);
  expect(run("--version=raw")).toEqual(["run", "--version"]);
  expect(run("--", "--a_b")).toEqual(["run", "--", "--a_b"]);
  expect(asKubeProxyArgs(["lab", "--a_b"])).toEqual(["lab", "--a_b"]);
  const main = resolve(import.meta.dirname, "../../src/main.ts");
  const args = ["run", "--proxy_mode=iptables", "--hostname_override", "a_b"];
  const ran = spawnSync(process.execPath, [main, ...args], { encoding: "utf8" });
  expect(ran.stderr).toContain("--hostname-override must be the name of a Node");
  const version = spawnSync(process.execPath, [main, "run", "--version=raw"], { encoding: "utf8" });
  expect([version.status, version.stdout]).toEqual([0, expect.stringMatching(/^millrace /)]);
});

it("what is ignored is a notice, a warning where it is missed", () => {
  const one = { from: "--profiling", why: "there is none", missed: true };
  expect(ignoredNotices([one, { ...one, from: "--v", missed: false }])).toMatchObject([
    {
      object: "Setting --profiling",
      reason: "setting-ignored",
      severity: "warning",
      message: "--profiling is ignored: there is none",
    },
    { object: "Setting --v", severity: "info" },
  ]);
});

it("docs/kube-proxy.md is what the table says", () => {
  expect(readFileSync(resolve(import.meta.dirname, "../../docs/kube-proxy.md"), "utf8")).toBe(kubeProxyPage());
});
