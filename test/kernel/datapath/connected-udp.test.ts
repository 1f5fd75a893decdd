// Connected UDP sockets whose backend is gone, on real devices: packets carry their sockets, which no test run's packet does. Pods'
// conversations go on to a living backend, the host's are refused, and nothing reaches whoever has the old address now.
import net from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createDeadSockets } from "../../../src/agent/dead-sockets.ts";
import { readHz } from "../../../src/datapath/flow-table.ts";
import { createLog } from "../../../src/lib/log.ts";
import { endpoint, service, slice } from "../../flows/builders.ts";
import { itWith, lackOf } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, FAMILIES, type Family, objects, portsOf, V4, V6 } from "./conversation.ts";
import { HZ, macOf, SNAT_FIRST } from "./test-node.ts";
import { createUdpClients, type Udp } from "./udp-clients.ts";
import { createWires, serve, type Wires } from "./wires.ts";

const { port, target } = portsOf("UDP");
const families = FAMILIES.map((family) => [family.name, family] as const);

describeKernel("connected UDP sockets", () => {
  let wires: Wires;
  let cgroup: Disposable;
  const { open, closeAll } = createUdpClients(target);
  beforeAll(() => {
    wires = createWires();
    cgroup = joinCgroup(wires.node.dataplane);
    for (const namespace of [wires.pod, wires.backend]) {
      namespace.ip(`route add ${V4.ptp} via ${V4.bridge}`);
      namespace.ip(`-6 route add ${V6.ptp} via ${V6.bridge}`);
    }
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    wires?.[Symbol.dispose]();
  });
  beforeEach(() => wires.node.clearFlows());
  afterEach(closeAll);

  const here = (family: Family): Udp => open(wires.backend, family.name, family.here);
  const there = (family: Family): Udp => open(wires.remote, family.name, family.there);
  const answered = (text: string, family: Family): string => `re ${text} from ${at(family.vip, port)}`;

  /** Sockets that may ask for an address of the family. */
  const kinds = [
    ["IPv4", V4, "IPv4"],
    ["IPv6", V6, "IPv6"],
    ["IPv4 by an IPv6 socket", V4, "IPv6"],
  ] as const;

  it.each(kinds)(
    "%s: a pod's socket goes on with a living backend, whose answers bear the name that it asked for",
    async (_, family, kind) => {
      const { node } = wires;
      const [remote, local] = [there(family), here(family)];
      for (const namespace of [wires.pod, wires.ptp]) {
        await node.feed(objects(["there"]));
        const client = open(namespace, kind);
        expect(client.connect(family.vip, port)).toBe("");
        expect(client.ask(remote, "one")).toBe(answered("one", family));
        expect(node.flows()).toEqual([]);
        await node.feed(objects(["here"]));
        expect(client.ask(local, "two")).toBe(answered("two", family));
        expect(client.ask(local, "three")).toBe(answered("three", family));
        await node.feed(objects(["there"]));
        expect(client.ask(remote, "four")).toBe(answered("four", family));
        node.clearFlows();
      }
    },
  );

  it.each(families)(
    "%s: while no endpoint is left it is refused, also after the Service itself went, and served when there is one again",
    async (_, family) => {
      const { node } = wires;
      await node.feed(objects(["there"]));
      const [stranger, local] = [there(family), here(family)];
      const client = open(wires.pod, family.name);
      client.connect(family.vip, port);
      expect(client.ask(stranger, "one")).toBe(answered("one", family));
      for (const nothing of [objects([]), {}]) {
        await node.feed(nothing);
        expect(client.ask(stranger, "two")).toBe("nothing arrived, ECONNREFUSED");
      }
      expect(client.ask(stranger, "two")).toBe("nothing arrived, ECONNREFUSED");
      await node.feed(objects(["here"]));
      expect(client.ask(local, "three")).toBe(answered("three", family));
      await node.feed(objects([]));
      expect(client.ask(local, "four")).toBe("nothing arrived, ECONNREFUSED");
    },
  );

  it.each(families)(
    "%s: a pod on the bridge of a backend that is gone finds its address, and who has that address then",
    async (_, family) => {
      const { node } = wires;
      const [gone, remote] = [here(family), there(family)];
      const old = open(wires.pod, family.name);
      await node.feed(objects(["here"]));
      old.connect(family.vip, port);
      expect(old.ask(gone, "one")).toBe(answered("one", family));
      await node.feed(objects(["there"]));
      gone.socket.close();
      const neighbour = (): string => wires.pod.ip(`neigh show ${family.here} dev eth0`);
      const version = family === V4 ? "" : "-6 ";
      wires.backend.ip("link set eth0 down");
      // Here real seconds pass.
      node.settings({ hz: readHz(node.dataplane) });
      try {
        wires.pod.ip(`${version}neigh flush to ${family.here}`);
        expect(old.ask(remote, "two")).toBe(answered("two", family));
        expect(neighbour()).toContain(macOf("pod", 1));
      } finally {
        node.settings({ hz: HZ });
        wires.backend.ip("link set eth0 up");
        wires.backend.ip(`addr replace ${V6.here}/64 dev eth0 nodad`);
        for (const to of ["default", V4.ptp]) wires.backend.ip(`route replace ${to} via ${V4.bridge}`);
        for (const to of ["default", V6.ptp]) wires.backend.ip(`-6 route replace ${to} via ${V6.bridge}`);
      }
      // Another pod has it: what it answers counts, at once.
      wires.pod.ip(`${version}neigh flush to ${family.here}`);
      const stranger = here(family);
      const direct = open(wires.pod, family.name);
      direct.connect(family.here, target);
      // Its device has only just come up: a question may be lost, a third one is not.
      let told = "";
      for (let tries = 0; tries < 3 && !told.startsWith("re"); tries++) told = direct.ask(stranger, "three");
      expect(told).toBe(`re three from ${at(family.here, target)}`);
      expect(neighbour()).toContain(macOf("pod", 2));
      expect(old.ask(remote, "four")).toBe(answered("four", family));
      expect(stranger.receiveError()).toBe("EAGAIN");
    },
  );

  it("policy Local with endpoints elsewhere only: dropped, and counted by name", async () => {
    const { node } = wires;
    await node.feed(objects(["here"]));
    const [stranger, remote] = [here(V4), there(V4)];
    const client = open(wires.pod, "IPv4");
    client.connect(V4.vip, port);
    await node.feed(objects(["there"], { internalTrafficPolicy: "Local" }));
    const before = node.verdicts().get("POD_INGRESS DROP_NO_LOCAL_BACKEND") ?? 0;
    expect(client.ask(stranger, "x", undefined, 1)).toBe("nothing arrived");
    expect(remote.receiveError()).toBe("EAGAIN");
    expect(node.verdicts().get("POD_INGRESS DROP_NO_LOCAL_BACKEND")).toBe(before + 1);
  });

  it.each(families)(
    "%s: who has the address now is reached by who means him, and by nobody else",
    async (_, family) => {
      const { node } = wires;
      const remote = there(family);
      const strangers = [here(family), open(wires.ptp, family.name, family.ptp)] as const;
      for (const [where, stranger] of [
        ["here", strangers[0]],
        ["ptp", strangers[1]],
      ] as const) {
        await node.feed(objects([where]));
        const old = open(wires.pod, family.name);
        old.connect(family.vip, port);
        expect(old.ask(stranger, "before")).toBe(answered("before", family));
        const { port: used } = old.socket.localEnd();
        await node.feed(objects(["there"]));
        expect(old.ask(remote, "old")).toBe(answered("old", family));
        expect(stranger.receiveError()).toBe("EAGAIN");
        const direct = open(wires.pod, family.name);
        direct.connect(family[where], target);
        const named = `from ${at(family[where], target)}`;
        expect(direct.ask(stranger, "direct")).toBe(`re direct ${named}`);
        expect(open(wires.pod, family.name).ask(stranger, "to", { address: family[where], port: target })).toBe(
          `re to ${named}`,
        );
        // The very same socket means him, too, once it says so.
        const disconnect = open(wires.pod, family.name);
        disconnect.connect(family.vip, port);
        disconnect.connect(family[where], target);
        expect(disconnect.ask(stranger, "now")).toBe(`re now ${named}`);
        expect(used).toBe(old.socket.localEnd().port);
        node.clearFlows();
      }
    },
  );

  it.each(families)(
    "%s: an address that serves again, for another Service or the same, gets none of the old conversations it was not chosen for",
    async (_, family) => {
      const { node } = wires;
      const ports = [{ name: "u", protocol: "UDP", port: target }] as const;
      const vip = family === V4 ? "10.96.0.50" : "fd00:10:96::50";
      const other = {
        services: [service({ name: "other", clusterIPs: [vip], ports: [{ name: "u", protocol: "UDP", port }] })],
        slices: [slice({ service: "other", family: family.name, ports, endpoints: [endpoint(family.here)] })],
      };
      const both = (names: Parameters<typeof objects>[0]) => ({
        services: [...objects(names).services, ...other.services],
        slices: [...objects(names).slices, ...other.slices],
      });
      await node.feed(objects(["here"]));
      const [reused, remote] = [here(family), there(family)];
      const old = open(wires.pod, family.name);
      old.connect(family.vip, port);
      expect(old.ask(reused, "one")).toBe(answered("one", family));
      await node.feed(both(["there"]));
      const others = open(wires.pod, family.name);
      others.connect(vip, port);
      expect(others.ask(reused, "other's")).toBe(`re other's from ${at(vip, port)}`);
      expect(old.ask(remote, "two")).toBe(answered("two", family));
      expect(reused.receiveError()).toBe("EAGAIN");
      await node.feed(both([]));
      expect(old.ask(reused, "three")).toBe("nothing arrived, ECONNREFUSED");
      await node.feed(both(["here"]));
      expect(old.ask(reused, "four")).toBe(answered("four", family));
      // What it may use still when the other Service gives it up.
      await node.feed(objects(["here"]));
      expect(others.ask(reused, "gone")).toBe("nothing arrived, ECONNREFUSED");
      expect(old.ask(reused, "five")).toBe(answered("five", family));
    },
  );

  it("a backend that two Services had and one gave up is that Service's no more, and the other's still", async () => {
    const { node } = wires;
    const ports = [{ name: "u", protocol: "UDP", port: target }] as const;
    const second = {
      services: [
        service({ name: "second", clusterIPs: ["10.96.0.51"], ports: [{ name: "u", protocol: "UDP", port }] }),
      ],
      slices: [slice({ service: "second", ports, endpoints: [endpoint(V4.here)] })],
    };
    const first = objects(["here"]);
    await node.feed({ services: [...first.services, ...second.services], slices: [...first.slices, ...second.slices] });
    const [local, remote] = [here(V4), there(V4)];
    const [leaves, stays] = [open(wires.pod, "IPv4"), open(wires.pod, "IPv4")];
    leaves.connect(V4.vip, port);
    stays.connect("10.96.0.51", port);
    const moved = objects(["there"]);
    await node.feed({ services: [...moved.services, ...second.services], slices: [...moved.slices, ...second.slices] });
    expect(leaves.ask(remote, "moved")).toBe(answered("moved", V4));
    expect(stays.ask(local, "stays")).toBe(`re stays from ${at("10.96.0.51", port)}`);
  });

  it("a socket without storage, as one that an older build connected, is known by its cookie", async () => {
    const { node } = wires;
    await node.feed(objects(["there"]));
    const [stranger, local] = [there(V4), here(V4)];
    const client = open(wires.pod, "IPv4");
    client.connect(V4.vip, port);
    node.dataplane.map("socket_backends").delete(new Uint8Array(Int32Array.of(client.socket.fd).buffer));
    await node.feed(objects(["here"]));
    expect(client.ask(local, "on")).toBe(answered("on", V4));
    expect(stranger.receiveError()).toBe("EAGAIN");
  });

  it("a socket whose name was forgotten in the table of all sockets is told it by its own storage", async () => {
    const { node } = wires;
    await node.feed(objects(["there"]));
    const remote = there(V4);
    const client = open(wires.pod, "IPv4");
    client.connect(V4.vip, port);
    for (const [key] of node.dataplane.map("socket_peers").entries()) node.dataplane.map("socket_peers").delete(key);
    expect(client.ask(remote, "x")).toBe(answered("x", V4));
    expect(client.socket.peerName()).toEqual({ address: V4.vip, port });
    await node.feed(objects(["here"]));
    expect(client.ask(here(V4), "y")).toBe(answered("y", V4));
  });

  describe("a socket of the host", () => {
    it.each([
      ["on another node", "there"],
      ["in a pod on a bridge", "here"],
      ["in a pod without a bridge", "ptp"],
    ] as const)(
      "is refused by name when its backend %s is gone, and served when it is opened anew",
      async (_, where) => {
        const { node } = wires;
        for (const family of FAMILIES) {
          const namespaces = { there: wires.remote, here: wires.backend, ptp: wires.ptp };
          const rest = where === "there" ? "here" : "there";
          const stranger = open(namespaces[where], family.name, family[where]);
          const living = open(namespaces[rest], family.name, family[rest]);
          await node.feed(objects([where]));
          const client = open(node.namespace, family.name);
          // From one of our source ports, which it claims where it leaves by an uplink.
          node.namespace.inside(() =>
            client.socket.bind({ address: family === V4 ? "0.0.0.0" : "::", port: SNAT_FIRST }),
          );
          client.connect(family.vip, port);
          for (const text of ["one", "and", "more"]) expect(client.ask(stranger, text)).toBe(answered(text, family));
          await node.feed(objects([rest]));
          const hook = where === "there" ? "UPLINK_EGRESS" : "POD_EGRESS";
          const before = node.verdicts().get(`${hook} VERDICT_REFUSE`) ?? 0;
          for (let i = 0; i < 3; i++) expect(client.ask(stranger, "two")).toBe("nothing arrived, ECONNREFUSED");
          expect(node.verdicts().get(`${hook} VERDICT_REFUSE`)).toBe(before + 3);
          const anew = open(node.namespace, family.name);
          anew.connect(family.vip, port);
          expect(anew.ask(living, "three")).toBe(answered("three", family));
          const direct = open(node.namespace, family.name);
          direct.connect(family[where], target);
          expect(direct.ask(stranger, "four")).toBe(`re four from ${at(family[where], target)}`);
          for (const socket of [stranger, living, client]) socket.socket.close();
          node.clearFlows();
        }
      },
    );

    const itEnds = itWith("sock_destroy");
    const endDead = (protocols: readonly ("TCP" | "UDP")[]): Promise<void> =>
      wires.node.namespace.inside(async () => {
        const { dataplane } = wires.node;
        const { signal } = new AbortController();
        const dead = createDeadSockets({ dataplane, protocols, log: createLog("test"), signal });
        dead.look();
        await dead.settled();
      });

    itEnds.each(kinds)("%s: is ended when its backend left, and no other is", async (_, family, kind) => {
      const { node } = wires;
      await node.feed(objects(["there"]));
      const remote = there(family);
      const [asked, direct, inPod] = [node.namespace, node.namespace, wires.pod].map((namespace) =>
        open(namespace, kind),
      ) as [Udp, Udp, Udp];
      for (const client of [asked, inPod]) client.connect(family.vip, port);
      direct.connect(family.there, target);
      await endDead(["UDP"]);
      expect(asked.ask(remote, "one")).toBe(answered("one", family));
      await node.feed(objects(["here"]));
      await endDead(["UDP"]);
      expect(asked.receiveError()).toBe("ECONNABORTED");
      expect(asked.send("two")).toBe("EDESTADDRREQ");
      expect(asked.connect(family.vip, port)).toBe("");
      expect(asked.ask(here(family), "three")).toBe(answered("three", family));
      expect(direct.ask(remote, "four")).toBe(`re four from ${at(family.there, target)}`);
      expect(inPod.ask(here(family), "five")).toBe(answered("five", family));
    });

    itEnds("of TCP is ended only when that is asked for", async () => {
      const { node } = wires;
      await using _server = await serve(wires.backend, "here", { udp: false });
      await node.feed(objects(["here"]));
      const connection = await node.namespace.inside(
        () =>
          new Promise<net.Socket>((resolve, reject) => {
            const connecting = net.connect({ host: V4.vip, port: 80 }, () => resolve(connecting));
            connecting.once("error", reject);
          }),
      );
      connection.resume();
      const errors: (string | undefined)[] = [];
      connection.on("error", (error: NodeJS.ErrnoException) => errors.push(error.code));
      const closed = new Promise<void>((resolve) => connection.once("close", () => resolve()));
      await node.feed(objects(["there"]));
      await endDead(["UDP"]);
      expect(connection.destroyed).toBe(false);
      await endDead(["UDP", "TCP"]);
      await closed;
      expect(errors).toEqual(["ECONNABORTED"]);
    });
  });

  describe("sendto() on a connected socket", () => {
    it.each(kinds)(
      "%s: the address that it asked for, named again, is the same conversation",
      async (_, family, kind) => {
        const { node } = wires;
        await node.feed(objects(["there", "here"]));
        const servers = [there(family), here(family)];
        const vip = { address: family.vip, port };
        for (const namespace of [wires.pod, node.namespace]) {
          for (let i = 0; i < 6; i++) {
            const client = open(namespace, kind);
            client.connect(family.vip, port);
            const server = client.realPeer()?.address === family.there ? servers[0]! : servers[1]!;
            expect(client.ask(server, "named", vip)).toBe(answered("named", family));
          }
        }
      },
    );

    it("goes on with a living backend when that one is gone, from a pod; of the host it is refused", async () => {
      const { node } = wires;
      await node.feed(objects(["there"]));
      const [stranger, local] = [there(V4), here(V4)];
      const vip = { address: V4.vip, port };
      const [inPod, onHost] = [open(wires.pod, "IPv4"), open(node.namespace, "IPv4")];
      for (const client of [inPod, onHost]) client.connect(V4.vip, port);
      await node.feed(objects(["here"]));
      expect(inPod.ask(local, "named", vip)).toBe(answered("named", V4));
      expect(onHost.send("named", vip)).toBe(lackOf(["set_retval"]) === undefined ? "ECONNREFUSED" : "EPERM");
      expect(stranger.receiveError()).toBe("EAGAIN");
    });

    it("another frontend is another conversation, told by its own name", async () => {
      const { node } = wires;
      await node.feed(objects(["there", "here"]));
      const client = open(wires.pod, "IPv4");
      client.connect(V4.vip, port);
      const peer = client.realPeer()?.address;
      const [near, other] = peer === V4.there ? [there(V4), here(V4)] : [here(V4), there(V4)];
      expect(client.ask(near, "vip")).toBe(answered("vip", V4));
      client.send("lb", { address: V4.lb, port });
      // A connected socket takes nobody's answer but its peer's.
      expect(other.receive()?.data).toBe("lb");
    });
  });

  it.each(kinds)(
    "%s: a pod that is asked directly, after a Service led to it, is told as itself, and then as the Service again",
    async (_, family, kind) => {
      const { node } = wires;
      await node.feed(objects(["there"]));
      const remote = there(family);
      for (const namespace of [wires.pod, node.namespace]) {
        const client = open(namespace, kind);
        const [vip, pod] = [
          { address: family.vip, port },
          { address: family.there, port: target },
        ];
        expect(client.ask(remote, "one", vip)).toBe(answered("one", family));
        expect(client.ask(remote, "two", pod)).toBe(`re two from ${at(family.there, target)}`);
        expect(client.ask(remote, "three", vip)).toBe(answered("three", family));
      }
    },
  );
});
