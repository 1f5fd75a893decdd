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
    ["masqueradeAll", true, "KubeProxyConfiguration has no field 'masqueradeAll'"],
    ["conntrack.maxPerCores", 1, "has no field 'conntrack.maxPerCores'; did you mean conntrack.maxPerCore?"],
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
      "a ConfigMap with a wrong field",
      `apiVersion: v1\nkind: ConfigMap\ndata:\n  config.conf: '{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "x": 1}'\n`,
      "could not use the configuration config.conf in kp.yaml: KubeProxyConfiguration has no field 'x'",
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
    ["proxy-mode", "iptables", { missed: false }],
    ["iptables-localhost-nodeports", "false", { missed: true }],
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
