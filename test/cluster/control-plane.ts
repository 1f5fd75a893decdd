// etcd, the API server, the controller manager and the scheduler, in the control plane's namespace.
import { cpSync, existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { POD_NETWORK, POD_NETWORK6 } from "../../src/lab/addressing.ts";
import { runChecked } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import { API_PORT, CONTROL_ADDRESSES, KUBERNETES_ADDRESS, SERVICE_RANGES } from "./addressing.ts";
import { Authority, type Certificate, writeKubeconfig } from "./certificates.ts";
import type { Component } from "./component.ts";
import { flags } from "./flags.ts";
import { Member } from "./member.ts";
import type { ClusterPaths } from "./paths.ts";
import { programPath } from "./programs.ts";

const ETCD_URL = "http://127.0.0.1:2379";

export class ControlPlane extends Member {
  readonly authority: Authority;
  readonly etcd: Etcd;
  readonly apiserver: Component;
  readonly controllers: Component;
  readonly scheduler: Component;
  /** Leads this machine's processes to the API server. */
  readonly forwarder: Component;

  constructor(paths: ClusterPaths) {
    super(paths, "control");
    this.authority = new Authority(paths.pki);
    this.apiserver = this.component("kube-apiserver", { command: () => this.#apiserverCommand() });
    this.etcd = new Etcd(this, this.apiserver);
    this.controllers = this.component("kube-controller-manager", { command: () => this.#controllersCommand() });
    this.scheduler = this.component("kube-scheduler", { command: () => this.#schedulerCommand() });
    const forward = join(import.meta.dirname, "forward-api.ts");
    this.forwarder = this.component("api-forwarder", {
      command: () => [process.execPath, "--no-warnings", forward, this.apiSocket],
    });
  }

  get apiSocket(): string {
    return join(this.paths.state, "api.sock");
  }

  /** The cluster's administrator. */
  get adminKubeconfig(): string {
    return join(this.paths.state, "kubeconfig");
  }

  get adminCertificate(): Certificate {
    return this.#certificate("admin");
  }

  /** Makes the authority, every certificate of the control plane and the kubeconfig files that go with them. */
  async prepare(): Promise<void> {
    const { authority } = this;
    await authority.create();
    const addresses = [...CONTROL_ADDRESSES, KUBERNETES_ADDRESS, "127.0.0.1", "::1"].map((address) => `IP:${address}`);
    const names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(
      (name) => `DNS:${name}`,
    );
    await Promise.all([
      authority.issue({ name: "apiserver", user: "kube-apiserver", names: [...names, ...addresses] }),
      authority.issue({ name: "apiserver-kubelet", user: "kube-apiserver-kubelet", group: "system:masters" }),
      authority.issue({ name: "admin", user: "kubernetes-admin", group: "system:masters" }),
      authority.issue({ name: "controllers", user: "system:kube-controller-manager" }),
      authority.issue({ name: "scheduler", user: "system:kube-scheduler" }),
    ]);
    writeKubeconfig(this.adminKubeconfig, authority, this.adminCertificate);
    for (const name of ["controllers", "scheduler"]) {
      writeKubeconfig(this.#kubeconfig(name), authority, this.#certificate(name));
    }
  }

  #certificate(name: string): Certificate {
    return { certificate: join(this.paths.pki, `${name}.crt`), key: join(this.paths.pki, `${name}.key`) };
  }

  #kubeconfig(name: string): string {
    return join(this.paths.pki, `${name}.kubeconfig`);
  }

  #apiserverCommand(): string[] {
    const { authority } = this;
    const server = this.#certificate("apiserver");
    const kubelet = this.#certificate("apiserver-kubelet");
    return [
      programPath("kube-apiserver"),
      ...flags({
        "advertise-address": CONTROL_ADDRESSES[0]!,
        "allow-privileged": true,
        "authorization-mode": "Node,RBAC",
        "bind-address": "::",
        "client-ca-file": authority.certificate,
        "enable-admission-plugins": "NodeRestriction",
        "etcd-servers": ETCD_URL,
        "kubelet-certificate-authority": authority.certificate,
        "kubelet-client-certificate": kubelet.certificate,
        "kubelet-client-key": kubelet.key,
        "kubelet-preferred-address-types": "InternalIP",
        "secure-port": API_PORT,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": authority.tokenKey,
        "service-account-signing-key-file": authority.tokenKey,
        "service-cluster-ip-range": SERVICE_RANGES.join(","),
        // A stopped cluster is not drained: what watches it must bear that.
        "shutdown-delay-duration": "0s",
        "tls-cert-file": server.certificate,
        "tls-private-key-file": server.key,
      }),
    ];
  }

  #controllersCommand(): string[] {
    const { authority } = this;
    return [
      programPath("kube-controller-manager"),
      ...this.#asClient("controllers"),
      ...flags({
        // Each node has the prefix that its number says; the network was made so.
        "allocate-node-cidrs": false,
        "cluster-cidr": `${POD_NETWORK},${POD_NETWORK6}`,
        "cluster-signing-cert-file": authority.certificate,
        "cluster-signing-key-file": authority.key,
        // At the default of 20 requests a second it takes 5 s to start its controllers.
        "kube-api-burst": 1000,
        "kube-api-qps": 500,
        "root-ca-file": authority.certificate,
        "service-account-private-key-file": authority.tokenKey,
        "service-cluster-ip-range": SERVICE_RANGES.join(","),
        "use-service-account-credentials": true,
      }),
    ];
  }

  #schedulerCommand(): string[] {
    return [programPath("kube-scheduler"), ...this.#asClient("scheduler")];
  }

  /** There is one of each: whoever leads needs no election. */
  #asClient(name: string): string[] {
    const kubeconfig = this.#kubeconfig(name);
    return flags({
      kubeconfig,
      "authentication-kubeconfig": kubeconfig,
      "authorization-kubeconfig": kubeconfig,
      "bind-address": "127.0.0.1",
      "leader-elect": false,
    });
  }
}

/** The store, and its state as it was at some moment. */
export class Etcd {
  readonly component: Component;
  readonly #apiserver: Component;
  readonly #paths: ClusterPaths;

  constructor(control: Member, apiserver: Component) {
    this.#paths = control.paths;
    this.#apiserver = apiserver;
    this.component = control.component("etcd", {
      command: () => [
        programPath("etcd"),
        ...flags({
          "advertise-client-urls": ETCD_URL,
          "data-dir": this.#paths.etcd,
          "listen-client-urls": ETCD_URL,
          "listen-peer-urls": "http://127.0.0.1:2380",
          "log-level": "warn",
          "quota-backend-bytes": 4 * 2 ** 30,
          // Its files are thrown away with the cluster.
          "unsafe-no-fsync": true,
        }),
      ],
    });
  }

  start(): Promise<void> {
    return this.component.start();
  }

  stop(): Promise<void> {
    return this.component.stop();
  }

  /** Keeps the state of this moment under `name`, as a crash would leave it. A snapshot of the same name is replaced. */
  async snapshot(name = "snapshot"): Promise<void> {
    const copy = this.#snapshotPath(name);
    rmSync(copy, { recursive: true, force: true });
    this.component.signal("SIGSTOP");
    try {
      await runChecked("cp", ["-a", "--reflink=auto", this.#paths.etcd, copy]);
    } finally {
      this.component.signal("SIGCONT");
    }
  }

  /**
   * Goes back to a snapshot, and with etcd the API server, whose watch cache knows the future: both are stopped, and started
   * again. The API server does not serve yet when this returns. @throws not_found
   */
  async restore(name = "snapshot"): Promise<void> {
    const copy = this.#snapshotPath(name);
    if (!existsSync(copy))
      throw new Failure("not_found", name, `could not restore etcd: there is no snapshot '${name}'`);
    await this.#apiserver.kill();
    await this.component.kill();
    const unfinished = `${this.#paths.etcd}.part`;
    cpSync(copy, unfinished, { recursive: true, preserveTimestamps: true });
    rmSync(this.#paths.etcd, { recursive: true, force: true });
    renameSync(unfinished, this.#paths.etcd);
    await this.component.start();
    await this.#apiserver.start();
  }

  #snapshotPath(name: string): string {
    return join(this.#paths.state, `etcd-${name}`);
  }
}
