// `millrace controller` on a real API server: two of them over one Lease, MetalLB's objects unchanged, an assignment of MetalLB's taken
// over, pools and Services that come, change and go under load, bad input, rights. What agents do with the addresses is theirs.
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LAN_PREFIX6 } from "../../src/lab/addressing.ts";
import { millraceCommand } from "../../src/lab/programs.ts";
import { API_URL } from "./addressing.ts";
import { writeKubeconfig } from "./certificates.ts";
import type { Cluster } from "./cluster.ts";
import type { Component } from "./component.ts";
import { flags } from "./flags.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverOnEachNode, serviceOf } from "./workloads.ts";

const DEPLOY = resolve(import.meta.dirname, "../../deploy");
const DIST = resolve(import.meta.dirname, "../../dist");
const ACCOUNT = "system:serviceaccount:kube-system:millrace-controller";
const SOON = { timeoutMs: 20_000 };

interface Item {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: { readonly type: string; readonly clusterIPs?: readonly string[] };
  readonly status: {
    readonly loadBalancer?: { readonly ingress?: readonly { readonly ip: string }[] };
    readonly [field: string]: unknown;
  };
}

const ips = ({ status }: Item): readonly string[] => (status.loadBalancer?.ingress ?? []).map(({ ip }) => ip);

const pool = (name: string, addresses: readonly string[], spec: object = {}): object => ({
  apiVersion: "metallb.io/v1beta1",
  kind: "IPAddressPool",
  metadata: { name, namespace: "metallb-system" },
  spec: { addresses, ...spec },
});

const service = (name: string, spec: object = {}, annotations: Readonly<Record<string, string>> = {}): object => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default", annotations },
  spec: { type: "LoadBalancer", selector: { app: "none" }, ports: [{ port: 80 }], ...spec },
});

describe.sequential("millrace controller on a cluster", () => {
  let cluster: Cluster;
  const controllers: Component[] = [];

  beforeAll(async () => {
    cluster = await startCluster({ name: "lb", nodes: 1, replace: true });
    await cluster.apply(readFileSync(join(DEPLOY, "crds.yaml"), "utf8"));
    // Its image is in no registry here: the same program runs beside the control plane.
    const parts = readFileSync(join(DEPLOY, "controller.yaml"), "utf8").split("---\n");
    await cluster.apply(parts.filter((part) => !/^kind: Deployment$/m.test(part)).join("---\n"));
    await cluster.apply(manifest({ apiVersion: "v1", kind: "Namespace", metadata: { name: "metallb-system" } }));
    const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 7200 } };
    const path = "/api/v1/namespaces/kube-system/serviceaccounts/millrace-controller/token";
    const { status } = await cluster.api.ask<{ status: { token: string } }>({ method: "POST", path, body });
    const kubeconfig = join(cluster.paths.state, "controller.kubeconfig");
    const tokenFile = join(cluster.paths.state, "controller.token");
    writeFileSync(tokenFile, status.token, { mode: 0o600 });
    writeKubeconfig(kubeconfig, cluster.control.authority, { tokenFile }, API_URL);
    for (const at of [0, 1]) {
      const own = flags({
        kubeconfig,
        "healthz-bind-address": `127.0.0.1:${20100 + at}`,
        "metrics-bind-address": `127.0.0.1:${20200 + at}`,
      });
      controllers.push(
        cluster.control.component(`controller${at}`, { command: () => millraceCommand(["controller", ...own], DIST) }),
      );
    }
  });

  afterAll(() => cluster?.down());

  const services = async (): Promise<readonly Item[]> =>
    (await cluster.api.ask<{ items: readonly Item[] }>("/api/v1/namespaces/default/services")).items;
  const read = (name: string): Promise<Item> => cluster.api.ask<Item>(`/api/v1/namespaces/default/services/${name}`);

  async function given(name: string, wanted?: readonly string[]): Promise<readonly string[]> {
    return waitUntil(
      `${name} to have ${wanted?.join() ?? "an address"}`,
      async () => {
        const found = ips(await read(name));
        if (wanted === undefined) return found.length > 0 ? found : undefined;
        if (found.join() !== wanted.join()) throw new Error(`it has ${found.join() || "none"}`);
        return found;
      },
      SOON,
    );
  }

  async function eventsAbout(name: string, pattern: RegExp): Promise<void> {
    await waitUntil(
      `an event about ${name} that says ${pattern}`,
      async () => {
        const path = `/api/v1/events?fieldSelector=involvedObject.name=${name}`;
        const { items } = await cluster.api.ask<{ items: readonly { reason: string; message: string }[] }>(path);
        const texts = items.map(({ reason, message }) => `${reason} ${message}`);
        if (texts.some((text) => pattern.test(text))) return true;
        throw new Error(`there are: ${texts.join("; ")}`);
      },
      SOON,
    );
  }

  async function view(at: number): Promise<{ leads: boolean; holder: string; problems: readonly string[] }> {
    const { stdout } = await cluster.exec("control", [
      "curl",
      "-sf",
      "-m",
      "2",
      `http://127.0.0.1:${20100 + at}/status`,
    ]);
    return JSON.parse(stdout);
  }

  /** Which of them leads. */
  const leader = (): Promise<number> =>
    waitUntil("one of the controllers to lead", async () => {
      for (const [at, one] of controllers.entries()) if (one.pid !== undefined && (await view(at)).leads) return at;
      return undefined;
    });

  async function noAddressTwice(): Promise<void> {
    const all = (await services()).flatMap((one) => (/^shared/.test(one.metadata.name) ? [] : ips(one)));
    expect(all.length).toBe(new Set(all).size);
  }

  it("takes over what MetalLB gave, before it gives anything", async () => {
    await cluster.apply(manifest(service("older"), service("taken"), pool("first", ["198.51.100.1-198.51.100.2"])));
    // As MetalLB 0.16 writes it: annotation and status by the status subresource.
    const annotations = { "metallb.io/ip-allocated-from-pool": "first" };
    const body = { metadata: { annotations }, status: { loadBalancer: { ingress: [{ ip: "198.51.100.1" }] } } };
    const path = "/api/v1/namespaces/default/services/taken/status";
    const { metadata } = await cluster.api.ask<{ metadata: { resourceVersion: string } }>({
      method: "PATCH",
      path,
      body,
    });
    for (const one of controllers) await one.start();
    await leader();
    await given("older", ["198.51.100.2"]);
    const after = await cluster.api.ask<{ metadata: { resourceVersion: string } }>(
      "/api/v1/namespaces/default/services/taken",
    );
    expect(after.metadata.resourceVersion).toBe(metadata.resourceVersion);
  });

  it("serves the examples unchanged, and both families", async () => {
    for (const file of ["13-lb-pool.yaml", "14-loadbalancer.yaml"]) {
      await cluster.apply(readFileSync(join(DEPLOY, "examples", file), "utf8"));
    }
    await given("nginxlb", ["192.168.122.111"]);
    await eventsAbout("nginxlb", /^IPAllocated Assigned IP \["192\.168\.122\.111"\]$/);
    expect((await read("nginxlb")).metadata.annotations).toMatchObject({
      "metallb.io/ip-allocated-from-pool": "lb-ip-pool",
    });
    const both = pool("both", ["203.0.113.0/28", "2001:db8:1::/64"], { autoAssign: false });
    const annotations = { "metallb.universe.tf/address-pool": "both" };
    await cluster.apply(manifest(both, service("dual", { ipFamilyPolicy: "RequireDualStack" }, annotations)));
    await given("dual", ["203.0.113.0", "2001:db8:1::"]);
    await eventsAbout("dual", /^deprecatedAnnotation /);
    await waitUntil("the counters of the pool", async () => {
      const path = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/lb-ip-pool";
      const { status } = await cluster.api.ask<Item>(path);
      return status?.["assignedIPv4"] === 1 && status["availableIPv4"] === 9 ? true : undefined;
    });
  });

  it("is reached from outside in both families, at addresses of the LAN that an agent announces", async () => {
    const server = { name: "web" };
    const lan = pool("lan", ["192.168.122.130/32", `${LAN_PREFIX6}:130/128`], { autoAssign: false });
    const advertisement = {
      apiVersion: "metallb.io/v1beta1",
      kind: "L2Advertisement",
      metadata: { name: "lan", namespace: "metallb-system" },
      spec: { ipAddressPools: ["lan"] },
    };
    const metadata = { name: "web", namespace: "default", annotations: { "metallb.io/address-pool": "lan" } };
    const web = { ...serviceOf(server, { type: "LoadBalancer", ipFamilyPolicy: "RequireDualStack" }), metadata };
    await cluster.apply(manifest(lan, advertisement, serverOnEachNode(server), web));
    const addresses = await given("web", ["192.168.122.130", `${LAN_PREFIX6}:130`]);
    for (const address of addresses) {
      await waitUntil(
        `${address} to answer a client outside`,
        async () => {
          const url = `http://${address.includes(":") ? `[${address}]` : address}/hostname`;
          const { status, stdout } = await cluster.exec("client1", ["curl", "-sf", "-m", "1", url]);
          return status === 0 && stdout.startsWith("web-") ? true : undefined;
        },
        // An agent that started before the CRDs looks for them again within a minute.
        { timeoutMs: 90_000 },
      );
    }
  });

  it("shares an address by MetalLB's rule, and an edit takes nothing from the other", async () => {
    const annotations = { "metallb.io/allow-shared-ip": "k", "metallb.io/loadBalancerIPs": "192.168.122.115" };
    await cluster.apply(
      manifest(service("shared-a", {}, annotations), service("shared-b", { ports: [{ port: 81 }] }, annotations)),
    );
    await given("shared-a", ["192.168.122.115"]);
    await given("shared-b", ["192.168.122.115"]);
    const { "metallb.io/loadBalancerIPs": _, ...key } = annotations;
    await cluster.apply(manifest(service("shared-a", { ports: [{ port: 81 }] }, key)));
    await waitUntil("the edited one to go elsewhere", async () => {
      const [address = ""] = ips(await read("shared-a"));
      return address !== "" && address !== "192.168.122.115" ? true : undefined;
    });
    expect(ips(await read("shared-b"))).toEqual(["192.168.122.115"]);
    await cluster.delete(manifest(service("shared-a"), service("shared-b")));
  });

  it("says on the object what is wrong with it, and keeps what there is", async () => {
    await cluster.apply(manifest(service("wants-used", { loadBalancerIP: "192.168.122.111" })));
    await eventsAbout("wants-used", /^AllocationFailed .*192\.168\.122\.111 is in use by the Service default\/nginxlb/);
    await cluster.apply(manifest(service("nonsense", {}, { "metallb.io/loadBalancerIPs": "300.1.1.1" })));
    await eventsAbout("nonsense", /^LoadBalancerFailed .*"300\.1\.1\.1"/);
    const { addresses } = cluster.nodes[0]!;
    const bad = [
      { object: pool("overlaps", ["192.168.122.118/31"]), says: /overlaps with .* of IPAddressPool lb-ip-pool/ },
      { object: pool("malformed", ["nowhere"]), says: /spec\.addresses\[0\]: Invalid value: "nowhere"/ },
      { object: pool("of-a-node", [`${addresses[0]}/32`]), says: /an address of Node node1/ },
    ];
    const state = async (): Promise<Item["status"]> =>
      (await cluster.api.ask<Item>("/apis/metallb.io/v1beta1/namespaces/kube-system/configurationstates/controller"))
        .status;
    for (const { object, says } of bad) {
      await cluster.apply(manifest(object));
      await eventsAbout((object as Item).metadata.name, says);
      await waitUntil("the ConfigurationState to say so", async () => {
        const status = await state();
        return status["result"] === "Invalid" && says.test(String(status["errorSummary"])) ? true : undefined;
      });
      // The last valid configuration serves on.
      const name = `beside-${(object as Item).metadata.name}`;
      await cluster.apply(manifest(service(name)));
      await given(name);
      await cluster.delete(manifest(object, service(name)));
      await waitUntil("the ConfigurationState to be well", async () =>
        (await state())["result"] === "Valid" ? true : undefined,
      );
    }
    expect(ips(await read("nginxlb"))).toEqual(["192.168.122.111"]);
    await cluster.delete(manifest(service("wants-used"), service("nonsense")));
  });

  it("gives nobody an address twice while pools and Services come and go and leaders are killed", async () => {
    await cluster.apply(manifest(pool("many", ["10.200.0.0/24"])));
    let isOver = false;
    const looks = (async () => {
      for (; !isOver; await new Promise((resolve) => setTimeout(resolve, 100))) await noAddressTwice();
    })();
    const names = Array.from({ length: 60 }, (_, i) => `many-${i}`);
    const begunMs = Date.now();
    await cluster.apply(manifest(...names.map((name) => service(name))));
    const first = await leader();
    await controllers[first]!.kill();
    await cluster.apply(manifest(pool("more", ["10.201.0.0/24"])));
    await cluster.delete(manifest(...names.slice(0, 20).map((name) => service(name))));
    await cluster.apply(manifest(...names.slice(0, 10).map((name) => service(name, { ports: [{ port: 81 }] }))));
    const second = await leader();
    expect(second).not.toBe(first);
    const tookOverMs = Date.now() - begunMs;
    await controllers[first]!.start();
    const kept = new Map((await services()).map((one) => [one.metadata.name, ips(one).join()]));
    await cluster.apply(manifest(...names.slice(10, 20).map((name) => service(name))));
    const wanted = [...names];
    await waitUntil("all to have an address", async () => {
      const found = new Map((await services()).map((one) => [one.metadata.name, ips(one).join()]));
      return wanted.every((name) => found.get(name)) ? true : undefined;
    });
    for (const one of await services()) {
      const before = kept.get(one.metadata.name);
      if (before) expect([one.metadata.name, ips(one).join()]).toEqual([one.metadata.name, before]);
    }
    // Told to go, it gives the Lease back.
    const toldMs = Date.now();
    await controllers[second]!.stop();
    expect(await leader()).toBe(first);
    const handedMs = Date.now() - toldMs;
    await controllers[second]!.start();
    isOver = true;
    await looks;
    process.stdout.write(`leader killed: another leads within ${tookOverMs} ms; told to go: ${handedMs} ms\n`);
    expect(handedMs).toBeLessThan(15_000);
    await cluster.delete(manifest(...names.map((name) => service(name)), pool("more", ["10.201.0.0/24"])));
  });

  it("takes nothing away while it is away, and gives what was asked for when it is back", async () => {
    for (const one of controllers) await one.stop();
    await cluster.apply(manifest(service("late")));
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(ips(await read("late"))).toEqual([]);
    expect(ips(await read("nginxlb"))).toEqual(["192.168.122.111"]);
    await cluster.delete(manifest(service("older")));
    for (const one of controllers) await one.start();
    await given("late");
    await cluster.delete(manifest(service("late")));
  });

  it("gives an address up when its pool is gone, with a word about it", async () => {
    await cluster.apply(manifest(pool("short", ["100.64.9.9/32"]), service("moves", { loadBalancerIP: "100.64.9.9" })));
    await given("moves", ["100.64.9.9"]);
    await cluster.delete(manifest(pool("short", ["100.64.9.9/32"])));
    await eventsAbout("moves", /^ClearAssignment .*100\.64\.9\.9 is in no IPAddressPool/);
    await given("moves", []);
    expect((await read("moves")).metadata.annotations ?? {}).not.toHaveProperty("metallb.io/ip-allocated-from-pool");
    await cluster.delete(manifest(service("moves")));
  });

  it("made the announcers' Secret once, and its account may do nothing else", async () => {
    const path = "/api/v1/namespaces/kube-system/secrets/millrace-announcer";
    const secret = await cluster.api.ask<{ data: Readonly<Record<string, string>> }>(path);
    expect(Object.keys(secret.data)).toEqual(["current"]);
    expect(Buffer.from(secret.data["current"]!, "base64").toString()).toMatch(/^[0-9a-f]{32}$/);
    const may = async (verb: string, what: string, where: string, ...rest: readonly string[]): Promise<boolean> => {
      const { stdout } = await cluster.kubectl([
        "auth",
        "can-i",
        verb,
        what,
        `--as=${ACCOUNT}`,
        `-n=${where}`,
        ...rest,
      ]);
      return stdout.trim() === "yes";
    };
    expect(await may("patch", "services", "default", "--subresource=status")).toBe(true);
    expect(await may("get", "secrets/millrace-announcer", "kube-system")).toBe(true);
    expect(await may("list", "deployments.apps", "default")).toBe(true);
    expect(await may("list", "daemonsets.apps", "default")).toBe(true);
    const nots: readonly (readonly [string, string, string])[] = [
      ["patch", "services", "default"],
      ["update", "services", "default"],
      ["delete", "services", "default"],
      ["list", "secrets", "kube-system"],
      ["get", "secrets/other", "kube-system"],
      ["get", "secrets", "default"],
      ["create", "secrets", "default"],
      ["patch", "ipaddresspools.metallb.io", "metallb-system"],
      ["delete", "leases.coordination.k8s.io/millrace-controller", "kube-system"],
      ["create", "pods", "kube-system"],
      ["get", "deployments.apps", "default"],
      ["patch", "daemonsets.apps", "metallb-system"],
    ];
    for (const [verb, what, where] of nots)
      expect([verb, what, where, await may(verb, what, where)]).toEqual([verb, what, where, false]);
    for (const at of [0, 1])
      expect((await view(at)).problems.filter((one) => /403|could not write/.test(one))).toEqual([]);
  });
});
