import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { configReference } from "../../scripts/docs.ts";
import { clusterRangesOf, conntrackOf } from "../../src/agent/options.ts";
import { mergeOptions, readAgentOptions } from "../../src/cli/agent-options.ts";
import { cgroup2Mount } from "../../src/cli/cgroup2.ts";
import { parseConfig, readConfigFile } from "../../src/cli/config-file.ts";
import { environmentName, SETTINGS } from "../../src/cli/settings.ts";
import { FLOW_TIMEOUTS } from "../../src/datapath/flow-timeouts.ts";

const machine = { nodeName: "node1", cgroup: "/sys/fs/cgroup", memoryBytes: 8 * 2 ** 30, cpus: 2 };
const directory = mkdtempSync(join(tmpdir(), "millrace-config-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function merge(
  flags: Record<string, string> = {},
  environment: Record<string, string> = {},
  file: Record<string, string> = {},
) {
  return mergeOptions({ flags, environment, configFile: "/etc/m.yaml" }, file, machine);
}

describe("the known ranges of cluster addresses", () => {
  it.each([
    ["are kube-proxy's default with manifests", { manifests: "/etc/millrace" }, ["10.96.0.0/12"]],
    ["are none in a cluster, whose ServiceCIDRs tell", {}, []],
    ["are those that are given", { "service-cluster-ip-range": "10.43.0.0/16" }, ["10.43.0.0/16"]],
  ] as const)("%s", (_name, flags, ranges) => {
    expect(clusterRangesOf(merge(flags))).toEqual(ranges);
  });
});

describe("netfilter's limits", () => {
  it.each([
    ["are kube-proxy's in a cluster", {}, [32_768, 131_072, 86_400, 3600]],
    ["are left alone with manifests", { manifests: "/etc/millrace" }, [0, 0, 0, 0]],
    [
      "are those that are given, with manifests too",
      { manifests: "/m", "conntrack-max-per-core": "1", "conntrack-tcp-timeout-close-wait": "1h" },
      [1, 0, 0, 3600],
    ],
    ["are left alone in a cluster where 0 is given", { "conntrack-max-per-core": "0" }, [0, 131_072, 86_400, 3600]],
  ] as const)("%s", (_name, flags, limits) => {
    const { maxPerCore, min, establishedSeconds, closeWaitSeconds } = conntrackOf(merge(flags));
    expect([maxPerCore, min, establishedSeconds, closeWaitSeconds]).toEqual(limits);
  });
});

describe("the agent's options", () => {
  it("are these by default", () => {
    expect(merge()).toEqual({
      nodeName: "node1",
      manifests: [],
      kubeconfig: "",
      apiServer: "",
      trustLists: false,
      withController: false,
      namespace: "kube-system",
      loadBalancerClass: "",
      stateDir: "/var/lib/millrace",
      readOnly: false,
      cgroup: "/sys/fs/cgroup",
      pinDir: "/sys/fs/bpf/millrace",
      devices: [],
      serviceClusterIpRange: [],
      serviceNodePortRange: { first: 30000, last: 32767 },
      externalIpCidrs: [],
      nodePortAddresses: ["primary", "localhost"],
      clusterDomain: "cluster.local",
      sockets: "auto",
      xdp: "auto",
      externalClusterIPs: true,
      replyLimit: 1000,
      gratuitousArpSeconds: 60,
      announcerSecret: "",
      livenessPort: 7948,
      destroyTcpSockets: false,
      snatPortRange: { first: 49152, last: 65535 },
      conntrackMaxPerCore: undefined,
      conntrackMin: undefined,
      conntrackEstablishedSeconds: undefined,
      conntrackCloseWaitSeconds: undefined,
      forwardMark: 0x1000,
      apiSocket: "/run/millrace/api.sock",
      apiAddress: "",
      healthzBindAddress: "0.0.0.0:10256",
      metricsBindAddress: "127.0.0.1:10249",
      logFormat: "auto",
      logLevel: "info",
      mapSizes: {
        services: 16_384,
        frontends: 65_536,
        backends: 131_072,
        slots: 524_288,
        flows: 262_144,
        openings: 262_144,
      },
      balancing: { byDefault: "hash", tableSize: 2039 },
      flowTimeouts: FLOW_TIMEOUTS,
      conntrackUdpSeconds: 0,
      conntrackUdpStreamSeconds: 0,
      conntrackTcpBeLiberal: false,
      ignored: [],
    });
  });

  it("come from flags before environment before file before defaults", () => {
    const [flag, variable, key] = [
      { xdp: "on" },
      { MILLRACE_XDP: "off", MILLRACE_SOCKETS: "all" },
      { xdp: "auto", sockets: "host-only", "max-flows": "128" },
    ];
    const options = merge(flag, variable, key);
    expect([options.xdp, options.sockets, options.mapSizes.flows, options.mapSizes.slots]).toEqual([
      "on",
      "all",
      128,
      524_288,
    ]);
  });

  it.each([
    ["devices", "eth0, eth1", { devices: ["eth0", "eth1"] }],
    ["devices", "", { devices: [] }],
    ["service-cluster-ip-range", "10.0.0.0/16,fd00:0::/112", { serviceClusterIpRange: ["10.0.0.0/16", "fd00::/112"] }],
    ["service-node-port-range", "80-80", { serviceNodePortRange: { first: 80, last: 80 } }],
    ["state-dir", "/a/b/", { stateDir: "/a/b" }],
    ["healthz-bind-address", "", { healthzBindAddress: "" }],
    ["healthz-bind-address", ":10256", { healthzBindAddress: ":10256" }],
    ["metrics-bind-address", "[::1]:1", { metricsBindAddress: "[::1]:1" }],
    ["read-only", "true", { readOnly: true }],
    ["manifests", "", { manifests: [] }],
    ["kubeconfig", "/etc/k.conf", { kubeconfig: "/etc/k.conf" }],
    ["apiserver", "https://10.0.0.1:6443/", { apiServer: "https://10.0.0.1:6443" }],
    ["apiserver", "HTTPS://[FD00:0::1]:6443", { apiServer: "https://[fd00::1]:6443" }],
    ["apiserver", "https://proxy/k8s/clusters/c1/", { apiServer: "https://proxy/k8s/clusters/c1" }],
    ["apiserver", "http://127.0.0.1:8080", { apiServer: "http://127.0.0.1:8080" }],
    ["trust-lists", "true", { trustLists: true }],
    ["namespace", "millrace", { namespace: "millrace" }],
    ["load-balancer-class", "example.com/lb", { loadBalancerClass: "example.com/lb" }],
    ["external-ip-cidrs", "203.0.113.7/24, 2001:DB8::/32", { externalIpCidrs: ["203.0.113.0/24", "2001:db8::/32"] }],
    ["nodeport-addresses", "primary,10.0.0.0/8", { nodePortAddresses: ["primary", "10.0.0.0/8"] }],
    ["conntrack-max-per-core", "0", { conntrackMaxPerCore: 0 }],
    ["conntrack-min", "1000", { conntrackMin: 1000 }],
    ["conntrack-tcp-timeout-established", "24h0m0s", { conntrackEstablishedSeconds: 86_400 }],
    ["conntrack-tcp-timeout-close-wait", "0", { conntrackCloseWaitSeconds: 0 }],
    ["conntrack-tcp-timeout-close-wait", "1h30m", { conntrackCloseWaitSeconds: 5400 }],
    ["load-balancing", "maglev", { balancing: { byDefault: "maglev", tableSize: 2039 } }],
    ["maglev-table-size", "65521", { balancing: { byDefault: "hash", tableSize: 65_521 } }],
    [
      "flow-timeout",
      "tcp-established=24h,udp-stream=1m30s",
      { flowTimeouts: { ...FLOW_TIMEOUTS, tcpEstablishedSeconds: 86_400, udpSeconds: 90 } },
    ],
    ["conntrack-udp-timeout", "45s", { conntrackUdpSeconds: 45 }],
    ["conntrack-udp-timeout", "1.5h", { conntrackUdpSeconds: 5400 }],
    ["conntrack-tcp-be-liberal", "true", { conntrackTcpBeLiberal: true }],
    ["healthz-bind-address", "127.0.0.1", { healthzBindAddress: "127.0.0.1:10256" }],
    ["healthz-bind-address", "::", { healthzBindAddress: "[::]:10256" }],
    ["metrics-bind-address", "[fd00::1]", { metricsBindAddress: "[fd00::1]:10249" }],
    ["conntrack-udp-timeout-stream", "2m", { conntrackUdpStreamSeconds: 120 }],
  ])("read --%s '%s'", (name, text, expected) => {
    expect(merge({ [name]: text })).toMatchObject(expected);
  });

  it.each([
    [
      "service-node-port-range",
      "x",
      "--service-node-port-range must be first-last, two ports from 1 to 65535 in this order: current value is 'x'",
    ],
    ["service-node-port-range", "32767-30000", "first-last"],
    ["service-node-port-range", "0-10", "first-last"],
    ["service-node-port-range", "1-65536", "first-last"],
    ["service-cluster-ip-range", "10.96.0.0", "one CIDR"],
    ["service-cluster-ip-range", "10.96.0.0/33", "one CIDR"],
    ["service-cluster-ip-range", "10.0.0.0/8,11.0.0.0/8", "one of each family"],
    ["manifests", "/a,,/b", "--manifests must be directories or files: current value is '/a,,/b'"],
    ["kubeconfig", "admin.conf", "--kubeconfig must be an absolute path: current value is 'admin.conf'"],
    ["apiserver", "10.0.0.1:6443", "--apiserver must be https://HOST:PORT, or http:// for tests"],
    ["apiserver", "https:6443", "current value is 'https:6443'"],
    ["apiserver", "https://", "https://HOST:PORT"],
    ["apiserver", "https://h:65536", "https://HOST:PORT"],
    ["apiserver", "ftp://h", "https://HOST:PORT"],
    ["apiserver", "https://user@h", "https://HOST:PORT"],
    ["apiserver", "https://:secret@h", "https://HOST:PORT"],
    ["apiserver", "https://h/?timeout=1", "https://HOST:PORT"],
    ["apiserver", "https://h/#top", "https://HOST:PORT"],
    ["apiserver", "https://h /", "https://HOST:PORT"],
    ["namespace", "Kube_System", "--namespace must be the name of a namespace: current value is 'Kube_System'"],
    [
      "load-balancer-class",
      "a/b/c",
      "--load-balancer-class must be a class such as example.com/lb: current value is 'a/b/c'",
    ],
    ["trust-lists", "always", "--trust-lists must be true or false: current value is 'always'"],
    ["node-name", "../../x", "the name of a Node"],
    ["node-name", "a".repeat(254), "the name of a Node"],
    ["cluster-domain", "Cluster_Local", "a domain name"],
    ["devices", "eth0,a b", "names of network devices"],
    ["devices", "x".repeat(16), "names of network devices"],
    ["sockets", "some", "--sockets must be all, host-only or auto: current value is 'some'"],
    ["xdp", "", "auto, on or off"],
    ["read-only", "yes", "--read-only must be true or false: current value is 'yes'"],
    ["snat-port-range", "100-2000", "from 1024 on"],
    ["snat-port-range", "2000-60000", "256 to 16384 ports"],
    ["forward-mark", "0x1ffffffff", "a 32-bit number"],
    ["forward-mark", "yes", "a 32-bit number"],
    ["external-ip-cidrs", "203.0.113.7", "--external-ip-cidrs must be CIDRs such as 192.0.2.0/24"],
    ["nodeport-addresses", "primary,first", "--nodeport-addresses must be primary, localhost, all and CIDRs"],
    ["nodeport-addresses", "", "primary, localhost, all and CIDRs"],
    ["conntrack-min", "-1", "a whole number from 0"],
    ["conntrack-tcp-timeout-established", "86400", "a time such as 24h0m0s, or 0"],
    ["conntrack-tcp-timeout-established", "1m1h", "a time such as 24h0m0s, or 0"],
    ["state-dir", "var", "an absolute path"],
    ["pin-dir", "", "an absolute path"],
    ["api-socket", `/${"a".repeat(107)}`, "107 bytes"],
    ["api-address", "localhost:80", "ADDRESS:PORT"],
    ["healthz-bind-address", "0.0.0.0:65536", "ADDRESS:PORT"],
    ["metrics-bind-address", "::1:80", "ADDRESS:PORT"],
    ["max-flows", "1e6", "a whole number from 64"],
    ["load-balancing", "random", "hash or maglev"],
    ["maglev-table-size", "1000", "one of 251, 509"],
    ["flow-timeout", "tcp-established=soon", "NAME=DURATION from 1s to 480h"],
    ["flow-timeout", "tcp=1h", "names: tcp-syn-sent, tcp-syn-received"],
    ["flow-timeout", "udp=0s", "NAME=DURATION from 1s to 480h"],
    ["conntrack-udp-timeout", "45", "a time such as 24h0m0s, or 0"],
    ["max-slots", "0", "a whole number from 64"],
  ])("refuse --%s '%s'", (name, text, message) => {
    expect(() => merge({ [name]: text })).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
    );
  });

  it("say where a wrong value came from", () => {
    expect(() => merge({}, { MILLRACE_XDP: "x" })).toThrow(
      "MILLRACE_XDP must be auto, on or off: current value is 'x'",
    );
    expect(() => merge({}, {}, { xdp: "x" })).toThrow(
      "xdp in /etc/m.yaml must be auto, on or off: current value is 'x'",
    );
  });

  it.each([
    [{ manifests: "/m", kubeconfig: "/k" }, {}, {}, "could not use --manifests together with --kubeconfig"],
    [{ manifests: "/m", apiserver: "https://h" }, {}, {}, "could not use --manifests together with --apiserver"],
    [
      { manifests: "/m", "load-balancer-class": "a/b" },
      {},
      {},
      "could not use --load-balancer-class together with --manifests",
    ],
    [{ kubeconfig: "/k" }, {}, { manifests: "/m" }, "manifests in /etc/m.yaml together with --kubeconfig"],
    [{ manifests: "/m" }, { MILLRACE_APISERVER: "https://h" }, {}, "--manifests together with MILLRACE_APISERVER"],
  ])("name one source of objects: %j, %j, %j", (flags, environment, file, message) => {
    expect(() => merge(flags, environment, file)).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
    );
  });

  it("may take one source back with an empty flag", () => {
    const options = merge({ manifests: "", kubeconfig: "/k", apiserver: "https://h" }, {}, { manifests: "/m" });
    expect(options).toMatchObject({ manifests: [], kubeconfig: "/k", apiServer: "https://h" });
  });

  it("need a cgroup2 mount, and say how to get one", () => {
    const given = { flags: { manifests: "/m" }, environment: {}, configFile: "" };
    expect(() => mergeOptions(given, {}, { ...machine, cgroup: "" })).toThrow(/mount -t cgroup2.*--cgroup.*nsenter/);
    expect(
      mergeOptions({ ...given, flags: { ...given.flags, cgroup: "/c" } }, {}, { ...machine, cgroup: "" }).cgroup,
    ).toBe("/c");
  });

  it("take node name and cgroup from this machine", async () => {
    const options = await readAgentOptions({
      flags: { manifests: directory, cgroup: "/c" },
      environment: {},
      configFile: "",
    });
    expect(options.nodeName).toMatch(/^[a-z0-9.-]+$/);
  });

  it("refuse manifests at a path where nothing is", async () => {
    const flags = { manifests: `${directory},${directory}/absent`, cgroup: "/c" };
    await expect(readAgentOptions({ flags, environment: {}, configFile: "" })).rejects.toMatchObject({
      code: "usage",
      message: `could not read manifests from ${directory}/absent: there is no such file or directory`,
    });
  });

  it("have each a setting with a help text and a variable of its own", () => {
    const keys = SETTINGS.map((setting) => Object.keys(setting.read(setting.defaultValue(machine)))[0]);
    expect([...new Set(keys), "ignored"].sort()).toEqual(Object.keys(merge()).sort());
    expect(new Set(SETTINGS.map(({ name }) => environmentName(name))).size).toBe(SETTINGS.length);
    for (const { help } of SETTINGS) expect(help.length).toBeGreaterThan(10);
  });
});

describe("the configuration file", () => {
  it("has the flags' names as keys", async () => {
    const text = "manifests: [/a, /b]\nread-only: true\nmax-flows: 128\nxdp: off\nsockets: all\n";
    const { values } = parseConfig(text, "m.yaml");
    expect(values).toEqual({ manifests: "/a,/b", "read-only": "true", "max-flows": "128", xdp: "off", sockets: "all" });
  });

  it("may be empty", async () => {
    expect(parseConfig("# nothing\n", "m.yaml").values).toEqual({});
  });

  it.each([
    [
      "an unknown key",
      "stateDir: /x\n",
      "could not use the configuration m.yaml: unknown key 'stateDir'; did you mean state-dir?",
    ],
    ["a key with a letter too few", "manifest: /m\n", "unknown key 'manifest'; did you mean manifests?"],
    ["a list where one value belongs", "xdp: [on]\n", "xdp in m.yaml must be a single value"],
    ["a mapping as a value", "manifests: {a: b}\n", "manifests in m.yaml must be a text or a list of texts"],
    ["a key twice", "xdp: on\nxdp: off\n", "Map keys must be unique"],
    ["a list at the top", "- xdp\n", "it must be a mapping"],
    ["broken YAML", "xdp: [\n", "could not read the configuration m.yaml"],
    ["aliases", "xdp: &a on\nsockets: *a\n", "it uses aliases"],
    ["two documents", "xdp: on\n---\nxdp: off\n", "could not read the configuration m.yaml"],
  ])("is refused for %s", (_, text, message) => {
    expect(() => parseConfig(text, "m.yaml")).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
    );
  });

  it("is refused when it is absent or too large", async () => {
    const path = join(directory, "large.yaml");
    await expect(readConfigFile(path)).rejects.toThrow(`could not read the configuration ${path}: ENOENT`);
    writeFileSync(path, "");
    truncateSync(path, 2 << 20);
    await expect(readConfigFile(path)).rejects.toThrow("it is larger than 1048576 bytes");
  });

  it("of reference has every setting, is what the settings say, and means the defaults", async () => {
    const path = resolve(import.meta.dirname, "../../deploy/config-reference.yaml");
    expect(readFileSync(path, "utf8")).toBe(configReference());
    const { values } = await readConfigFile(path);
    expect(Object.keys(values)).toEqual(SETTINGS.map(({ name }) => name));
    const options = mergeOptions({ flags: {}, environment: {}, configFile: path }, values, {
      ...machine,
      nodeName: "",
      cgroup: "",
    });
    expect(options).toEqual(merge());
  });
});

describe("the cgroup2 mount", () => {
  it.each([
    ["cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup"],
    ["tmpfs /sys/fs/cgroup tmpfs rw 0 0\nx /sys/fs/cgroup/unified cgroup2 rw 0 0\n", "/sys/fs/cgroup/unified"],
    ["x /mnt/with\\040space cgroup2 rw 0 0\n", "/mnt/with space"],
    ["cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", ""],
    // A pod's own, and its node's beside it: of version 2 alone, of both, and one that only looks like it.
    ["c /sys/fs/cgroup cgroup2 rw 0 0\nc /host/sys/fs/cgroup cgroup2 ro 0 0\n", "/host/sys/fs/cgroup"],
    ["c /sys/fs/cgroup cgroup2 rw 0 0\nc /host/sys/fs/cgroup/unified cgroup2 ro 0 0\n", "/host/sys/fs/cgroup/unified"],
    ["c /sys/fs/cgroup cgroup2 rw 0 0\nc /host/sys/fs/cgroups cgroup2 ro 0 0\n", "/sys/fs/cgroup"],
    ["", ""],
  ])("in %j is %j", (mounts, expected) => {
    expect(cgroup2Mount(mounts)).toBe(expected);
  });
});
