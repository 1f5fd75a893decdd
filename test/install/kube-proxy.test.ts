// What is read of a cluster's kube-proxy, and what the agents get of it: as kubeadm and EKS configure it, and by flags alone.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { FIXED, settingsOf } from "../../src/cli/install-command.ts";
import { settingsTaken } from "../../src/cli/taken-settings.ts";
import { readClusterFacts } from "../../src/install/cluster-facts.ts";
import { gatherCluster } from "../../src/install/gather.ts";
import type { KubeProxyFacts } from "../../src/install/kube-proxy.ts";
import type { ClusterObject, ClusterObjects, ObjectName } from "../../src/kube/cluster-objects.ts";
import { kubeProxyObjects } from "./fake-cluster.ts";

const HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/** What the installer finds in a cluster of these objects. */
async function found(objects: readonly ClusterObject[]): Promise<KubeProxyFacts | undefined> {
  const api = {
    version: async () => "v1.34.4",
    list: async (kind: string) => objects.filter((one) => one.kind === kind),
    get: async (kind: string, { namespace, name }: ObjectName) =>
      objects.find((one) => one.kind === kind && one.metadata.namespace === namespace && one.metadata.name === name),
  } as unknown as ClusterObjects;
  return readClusterFacts(await gatherCluster(api, "")).kubeProxy;
}

function fixture(name: string): ClusterObject[] {
  const text = readFileSync(resolve(import.meta.dirname, "kube-proxies", name), "utf8");
  return parseAllDocuments(text).map((one) => one.toJS() as ClusterObject);
}

/** kubeadm's, with another text in its ConfigMap and more arguments. */
function kubeadm(configuration?: string, args: readonly string[] = []): ClusterObject[] {
  const [configMap, daemonSet] = structuredClone(kubeProxyObjects()) as unknown as [
    ClusterObject & { data: Record<string, string> },
    ClusterObject & { spec: { template: { spec: { containers: { args?: readonly string[] }[] } } } },
  ];
  if (configuration !== undefined) configMap.data["config.conf"] = configuration;
  daemonSet.spec.template.spec.containers[0]!.args = args;
  return [configMap, daemonSet];
}

/** kube-proxy with these arguments and no ConfigMap. */
const byFlags = (...command: string[]): ClusterObject[] => [
  {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "kube-proxy", namespace: "x" },
    spec: { template: { spec: { containers: [{ name: "c", image: "x/kube-proxy-amd64:v1.34", command }] } } },
  },
];

const taken = async (objects: readonly ClusterObject[], set: readonly string[] = [], isIgnored = false) =>
  settingsTaken(await found(objects), { set: settingsOf(set), fixed: FIXED, isIgnored });

describe("a cluster's kube-proxy", () => {
  it("of kubeadm is its DaemonSet with the ConfigMap that it mounts", async () => {
    expect(await found(kubeadm())).toMatchObject({
      namespace: "kube-system",
      name: "kube-proxy",
      labels: { "k8s-app": "kube-proxy" },
      mode: "iptables",
      isHeldBack: false,
      configuration: expect.stringMatching(/^apiVersion: kubeproxy.config.k8s.io/),
      configurationFrom: "config.conf of ConfigMap kube-system/kube-proxy",
      flags: { config: "/var/lib/kube-proxy/config.conf", "hostname-override": "$(NODE_NAME)" },
    });
  });

  it("of EKS has it in a ConfigMap of another name, under another key", async () => {
    expect(await found(fixture("eks.yaml"))).toMatchObject({
      mode: "iptables",
      configuration: expect.stringContaining("10.0.0.0/16"),
      configurationFrom: "config of ConfigMap kube-system/kube-proxy-config",
    });
  });

  it.each<[string, object, string]>([
    ["a key that is mounted by another name", { configMap: { name: "m", items: [{ key: "k", path: "a/b" }] } }, "k"],
    ["one of several sources", { projected: { sources: [{ secret: {} }, { configMap: { name: "m" } }] } }, "a/b"],
  ])("may have it in %s", async (_, source, key) => {
    const [daemonSet] = structuredClone(byFlags("--config", "/etc/kp/a/b"));
    const { spec } = (daemonSet as unknown as { spec: { template: { spec: Record<string, unknown> } } }).spec.template;
    const [container] = spec["containers"] as Record<string, unknown>[];
    container!["volumeMounts"] = [
      { name: "root", mountPath: "/etc" },
      { name: "v", mountPath: "/etc/kp" },
    ];
    spec["volumes"] = [
      { name: "root", hostPath: { path: "/etc" } },
      { name: "v", ...source },
    ];
    const configMap = { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace: "x", name: "m" } };
    expect(await found([daemonSet!, { ...configMap, data: { [key]: `${HEAD}mode: ipvs\n` } }])).toMatchObject({
      mode: "ipvs",
      configurationFrom: `${key} of ConfigMap x/m`,
    });
  });

  it("by flags alone has those that its shell gives it", async () => {
    expect(await found(fixture("flags.yaml"))).toMatchObject({
      mode: "iptables",
      configuration: "",
      flags: {
        "cluster-cidr": "10.4.0.0/14",
        "nodeport-addresses": "10.0.0.0/16,127.0.0.0/8",
        "metrics-bind-address": "0.0.0.0:10249",
        v: "2",
      },
    });
  });

  it.each<[string, ClusterObject[], string]>([
    ["its configuration", kubeadm(`${HEAD}mode: nftables\n`), "nftables"],
    ["its configuration, not by a flag beside it", kubeadm(HEAD, ["--proxy-mode=ipvs"]), "iptables"],
    ["a flag", byFlags("kube-proxy", "--proxy-mode=ipvs"), "ipvs"],
    ["an underscored flag", byFlags("kube-proxy", "--proxy_mode", "ipvs"), "ipvs"],
    ["nothing that is known", byFlags(), ""],
    ["a configuration that is not known", byFlags("--config=/etc/kp.yaml"), ""],
    ["a configuration that is none", kubeadm("{"), ""],
  ])("has a mode by %s", async (_, objects, mode) => {
    expect((await found(objects))?.mode).toBe(mode);
  });

  it.each<[string, string[], string]>([
    ["", [], "127.0.0.1:10256"],
    ["healthzBindAddress: ''", [], "127.0.0.1:10256"],
    ["healthzBindAddress: 192.0.2.7:9999", [], "192.0.2.7:9999"],
    ["healthzBindAddress: 192.0.2.7", [], "192.0.2.7:10256"],
    ["healthzBindAddress: '[::]:9999'", [], "[::1]:9999"],
    ["healthzBindAddress: 'fd00::7'", [], "[fd00::7]:10256"],
    ["bindAddress: '::'", [], "[::1]:10256"],
    ["healthzBindAddress: 0.0.0.0:9999", ["--healthz-bind-address=", "--healthz-port=0"], "127.0.0.1:9999"],
  ])("is asked for its health where its configuration says: %j, %j", async (line, args, expected) => {
    expect((await found(kubeadm(`${HEAD}${line}\n`, args)))?.healthz).toBe(expected);
  });

  it.each<[string[], string]>([
    [["--v=2"], "127.0.0.1:10256"],
    [["--healthz-bind-address="], ""],
    [["--healthz-bind-address", "127.0.0.1:7"], "127.0.0.1:7"],
    [["--healthz-bind-address=::"], "[::1]:10256"],
    [["--healthz-port=7"], "127.0.0.1:7"],
    [["--healthz-port=0"], ""],
    // The default of a flag knows nothing of another flag.
    [["--bind-address=::"], "127.0.0.1:10256"],
  ])("is asked for its health where its flags say: %j", async (args, expected) => {
    expect((await found(byFlags(...args)))?.healthz).toBe(expected);
  });
});

describe("the settings of a cluster's kube-proxy", () => {
  it("are taken over from kubeadm's ConfigMap, those too that --set says otherwise", async () => {
    const { config, refusals } = await taken(kubeadm(), ["nodeport-addresses=primary"]);
    expect(refusals).toEqual([]);
    expect(config).toEqual({
      "nodeport-addresses": "192.168.0.0/24",
      "conntrack-max-per-core": "0",
      "conntrack-tcp-timeout-established": "1h0m0s",
    });
  });

  it("are taken over from EKS' ConfigMap; a field that is not known is named", async () => {
    const { config, remarks, refusals } = await taken(fixture("eks.yaml"));
    expect(config).toMatchObject({
      "nodeport-addresses": "10.0.0.0/16",
      "conntrack-tcp-timeout-established": "12h0m0s",
      "metrics-bind-address": "0.0.0.0:10249",
    });
    expect([remarks, refusals]).toEqual([
      [
        "udpIdleTimeout in config of ConfigMap kube-system/kube-proxy-config, line 35 is left out: KubeProxyConfiguration has no field 'udpIdleTimeout'.",
      ],
      [],
    ]);
  });

  it("are taken over from flags, where there is no configuration", async () => {
    const { config, remarks, refusals } = await taken(fixture("flags.yaml"));
    expect(config).toEqual({
      "nodeport-addresses": "10.0.0.0/16,127.0.0.0/8",
      "conntrack-tcp-timeout-established": "2h",
      "metrics-bind-address": "0.0.0.0:10249",
    });
    expect([remarks, refusals]).toEqual([
      [
        "--resource-container of DaemonSet kube-system/kube-proxy is left out: it is no flag of kube-proxy that Millrace knows.",
      ],
      [],
    ]);
  });

  it.each<[string[], string]>([
    [["--v=2"], "all,localhost"],
    [["--proxy-mode=nftables"], "primary"],
    [["--iptables-localhost-nodeports=false"], "all"],
  ])("say where node ports answer when no flag names addresses: %j", async (flags, addresses) => {
    expect((await taken(byFlags(...flags))).config?.["nodeport-addresses"]).toBe(addresses);
  });

  it("are those of its configuration alone but for the few flags that count beside it", async () => {
    const flags = ["--nodeport-addresses=192.0.2.0/24", "--conntrack-min=7", "--v=4", "--profiling=true"];
    const { config = {}, remarks } = await taken(kubeadm(undefined, flags));
    expect(config).toMatchObject({ "nodeport-addresses": "192.168.0.0/24", "log-level": "debug" });
    expect(Object.keys(config)).not.toContain("conntrack-min");
    expect(remarks).toEqual([]);
  });

  it.each<[string, ClusterObject[], string]>([
    ["no flags", byFlags(), "DaemonSet x/kube-proxy has no flags"],
    ["a configuration elsewhere", byFlags("--config=/etc/kp.yaml"), "there is none at /etc/kp.yaml"],
    [
      "a ConfigMap that is not there",
      kubeadm().slice(1),
      "there is none at config.conf of ConfigMap kube-system/kube-proxy",
    ],
  ])("that are not found are told, and are not none: %s", async (_, objects, where) => {
    expect(await taken(objects, ["log-level=warn"])).toEqual({
      config: undefined,
      remarks: [
        `kube-proxy's settings were not found (${where}): what was taken over of them before holds, else Millrace's defaults.`,
      ],
      refusals: [],
    });
  });

  it.each<[string, ClusterObject[], RegExp]>([
    [
      "another type",
      kubeadm(`${HEAD}nodePortAddresses: 10.0.0.0/8\n`),
      /: nodePortAddresses in config.conf of Config.* must/,
    ],
    [
      "no addresses",
      kubeadm(`${HEAD}nodePortAddresses: [eth0]\n`),
      /: nodePortAddresses in config.conf of Config.* must/,
    ],
    ["no YAML", kubeadm("{"), /: could not read the configuration config.conf of ConfigMap kube-system\/kube-proxy: /],
    ["another kind", kubeadm("kind: A\n"), /it is of kind A/],
    ["none", kubeadm("log-level: warn\n"), /config.conf of ConfigMap kube-system\/kube-proxy has no KubeProxyConfig/],
    ["a flag's value", byFlags("--proxy-mode=ebpf"), /: DaemonSet x\/kube-proxy: --proxy-mode must be one of/],
    [
      "what is known on the node alone",
      byFlags("--nodeport-addresses=$(CIDR)"),
      /: --nodeport-addresses of DaemonSet x\/kube-proxy must be .*'\$\(CIDR\)'\. Correct it/,
    ],
  ])("that cannot be taken over are a refusal, unless that is wanted: %s", async (_, objects, message) => {
    const { config, remarks, refusals } = await taken(objects);
    expect([config, remarks]).toEqual([undefined, []]);
    expect(refusals).toEqual([expect.stringMatching(message)]);
    expect(refusals).toEqual([expect.stringMatching(/^kube-proxy's settings .* by --ignore-kube-proxy-config/)]);
    expect(await taken(objects, ["log-level=warn"], true)).toEqual({
      config: {},
      remarks: ["kube-proxy's settings are not taken over, as asked for."],
      refusals: [],
    });
  });

  it("are none where there is no kube-proxy, and nothing of before stays where that is wanted", async () => {
    expect(await taken([])).toEqual({ config: undefined, remarks: [], refusals: [] });
    expect(await taken([], [], true)).toMatchObject({ config: {}, refusals: [] });
  });

  it("are not asked about where --set says it", async () => {
    const objects = kubeadm(`${HEAD}nodePortAddresses: [eth0]\n`);
    expect(await taken(objects, ["nodeport-addresses=primary"])).toMatchObject({ refusals: [] });
  });
});
