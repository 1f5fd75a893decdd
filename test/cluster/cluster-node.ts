// One node: a network namespace on the LAN, mounts and a host name of its own, containerd and a kubelet.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lanAddresses, lanGateways, podPrefixes } from "../../src/lab/addressing.ts";
import type { Address } from "../../src/lib/address.ts";
import { Failure } from "../../src/lib/errors.ts";
import { CLUSTER_DOMAIN, DNS_ADDRESSES } from "./addressing.ts";
import { type Authority, type Certificate, writeKubeconfig } from "./certificates.ts";
import { makeEverywhere } from "./cgroup-hierarchies.ts";
import { type ClusterCni, CNI_PLUGINS, cniConfiguration } from "./cni.ts";
import { Component } from "./component.ts";
import { flags } from "./flags.ts";
import { copyImageStore } from "./image-store.ts";
import { PAUSE_IMAGE } from "./images.ts";
import { Member } from "./member.ts";
import { CGROUP_PREFIX, type ClusterPaths, memberNamespacePath, nodeFiles } from "./paths.ts";
import { programPath } from "./programs.ts";
import { waitUntil } from "./wait-until.ts";

const MOUNTS = join(import.meta.dirname, "node-mounts.sh");
const RUNTIME = "unix:///run/containerd/containerd.sock";
/** Paths in the node's own mounts; on the machine they are under `files`. */
const CONFIG = "/var/lib/cluster";

export class ClusterNode extends Member {
  readonly number: number;
  readonly addresses: readonly Address[];
  readonly containerd: Component;
  readonly kubelet: Component;
  readonly #holder: Component;

  constructor(paths: ClusterPaths, number: number) {
    super(paths, `node${number}`);
    this.number = number;
    this.addresses = lanAddresses("node", number, true);
    const unshare = ["unshare", "--mount", "--uts", "--propagation=private", "--"];
    const mounts = [MOUNTS, this.name, this.files, programPath("pause")];
    const base = {
      cgroup: join(this.cgroup, "holder"),
      log: join(paths.logs, `${this.name}-holder.log`),
      pidFile: join(paths.pids, `${this.name}-holder`),
    };
    const net = `--net=${memberNamespacePath(paths, this.name)}`;
    this.#holder = new Component({
      ...base,
      name: `mounts of ${this.name}`,
      command: () => ["nsenter", net, "--", ...unshare, ...mounts],
    });
    this.containerd = this.component("containerd", {
      command: () => ["containerd", "--config", `${CONFIG}/containerd.toml`],
    });
    this.kubelet = this.component("kubelet", { command: () => this.#kubeletCommand() });
  }

  /** Its files as the machine sees them: `run`, `lib` (its /var/lib), `log`. */
  get files(): string {
    return nodeFiles(this.paths, this.name);
  }

  /** Its cgroup, relative to the root of each hierarchy. */
  get cgroupName(): string {
    return `${CGROUP_PREFIX}${this.paths.name}/${this.name}`;
  }

  override enter(command: readonly string[]): string[] {
    return ["nsenter", `--target=${this.#holderPid}`, "--mount", "--uts", "--net", "--", ...command];
  }

  /** Its file system as it sees it, mounts and all, for this process. @throws not_found when it is not up */
  get root(): string {
    return `/proc/${this.#holderPid}/root`;
  }

  get #holderPid(): number {
    const { pid } = this.#holder;
    if (pid === undefined) throw new Failure("not_found", this.name, `could not enter ${this.name}: it is not up`);
    return pid;
  }

  /** Makes its namespaces, cgroups and files; its network is there. `store`: the directory that its images come from. */
  async prepare(authority: Authority, cni: ClusterCni, store: string): Promise<void> {
    for (const part of ["run", "log", "lib/cluster", "lib/kubelet", "lib/cni/net.d"]) {
      mkdirSync(join(this.files, part), { recursive: true });
    }
    makeEverywhere(this.cgroupName);
    const certificate = await authority.issue({
      name: this.name,
      user: `system:node:${this.name}`,
      group: "system:nodes",
      names: [`DNS:${this.name}`, ...this.addresses.map((address) => `IP:${address}`)],
    });
    this.#writeConfiguration(authority, certificate, cni);
    await copyImageStore(join(this.files, "lib/containerd"), store);
    await this.#holder.start();
    await this.#waitForMounts();
  }

  /** What is mounted last shows that all is. */
  async #waitForMounts(): Promise<void> {
    const isMounted = async () => {
      const { status } = await this.exec(["test", "-e", `${CONFIG}/kubelet.json`]);
      return status === 0 ? true : undefined;
    };
    await waitUntil(`the mounts of ${this.name}`, isMounted, { timeoutMs: 10_000, everyMs: 10, from: this.#holder });
  }

  async waitForContainerd(): Promise<void> {
    const answers = async () => {
      const { status, stderr } = await this.exec(["ctr", "--connect-timeout", "1s", "version"]);
      if (status !== 0) throw new Error(stderr.trim());
      return true;
    };
    await waitUntil(`containerd of ${this.name} to answer`, answers, { timeoutMs: 30_000, from: this.containerd });
  }

  /** One of three, as in a cluster of a cloud: `zone1` has node1, node4 and so on. */
  get zone(): string {
    return `zone${((this.number - 1) % 3) + 1}`;
  }

  /** Its Node object as it is before the kubelet has seen it: with the prefixes that the routes lead to. */
  get object(): object {
    const podCIDRs = podPrefixes(this.number, true);
    return {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: this.name, labels: { "topology.kubernetes.io/zone": this.zone } },
      spec: { podCIDR: podCIDRs[0], podCIDRs },
    };
  }

  #kubeletCommand(): string[] {
    const own = { config: `${CONFIG}/kubelet.json`, kubeconfig: `${CONFIG}/kubelet.kubeconfig` };
    return [
      programPath("kubelet"),
      ...flags({ ...own, "hostname-override": this.name, "node-ip": this.addresses.join(",") }),
    ];
  }

  #writeConfiguration(authority: Authority, certificate: Certificate, cni: ClusterCni): void {
    const write = (name: string, text: string) => writeFileSync(join(this.files, name), text);
    const writeJson = (name: string, value: object) => write(name, JSON.stringify(value, undefined, 2));
    write("resolv.conf", `nameserver ${lanGateways(false)[0]}\n`);
    write("lib/cluster/containerd.toml", containerdConfiguration());
    writeJson("lib/cluster/kubelet.json", this.#kubeletConfiguration());
    writeJson("lib/cni/net.d/10-pods.conflist", cniConfiguration(cni, this.number));
    writeKubeconfig(join(this.files, "lib/cluster/kubelet.kubeconfig"), authority, certificate);
    // The authority's directory is hidden by the node's own /var/lib.
    const copied = {
      "ca.crt": authority.certificate,
      "kubelet.crt": certificate.certificate,
      "kubelet.key": certificate.key,
    };
    for (const [name, source] of Object.entries(copied)) copyFileSync(source, join(this.files, "lib/cluster", name));
  }

  #kubeletConfiguration(): object {
    return {
      apiVersion: "kubelet.config.k8s.io/v1beta1",
      kind: "KubeletConfiguration",
      authentication: { anonymous: { enabled: false }, x509: { clientCAFile: `${CONFIG}/ca.crt` } },
      authorization: { mode: "Webhook" },
      cgroupDriver: "cgroupfs",
      cgroupRoot: `/${this.cgroupName}`,
      clusterDNS: DNS_ADDRESSES,
      clusterDomain: CLUSTER_DOMAIN,
      containerRuntimeEndpoint: RUNTIME,
      // The machine's disk may be as full as it likes.
      evictionHard: { "imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%" },
      failCgroupV1: false,
      failSwapOn: false,
      imageGCHighThresholdPercent: 100,
      resolvConf: "/etc/resolv.conf",
      tlsCertFile: `${CONFIG}/kubelet.crt`,
      tlsPrivateKeyFile: `${CONFIG}/kubelet.key`,
    };
  }
}

function containerdConfiguration(): string {
  const cri = `plugins."io.containerd.grpc.v1.cri"`;
  // Without CAP_SYS_RESOURCE no process may lower its oom_score_adj.
  return `version = 2
oom_score = 0

[${cri}]
  sandbox_image = "${PAUSE_IMAGE}"
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = true

[${cri}.cni]
  bin_dir = "${CNI_PLUGINS}"
  conf_dir = "/var/lib/cni/net.d"

[${cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[${cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
`;
}
