// What processes see of the socket programs: who answers, under which name, what is refused, and who is left alone. Real
// sockets in a pod's namespace to which every backend is local.
import net from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { listSocketPeers } from "../../../src/datapath/flow-table.ts";
import { SOCKETS_MODE_VALUES } from "../../../src/datapath/layout.gen.ts";
import { resetFeatures } from "../../../src/libbpf/mod.ts";
import { endpoint, slice } from "../../flows/builders.ts";
import { itWith } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, FAMILIES, type Family, objects, V4, V6 } from "./conversation.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { type End, openSocket, type Socket } from "./raw-sockets.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const text = (end: End | undefined): string | undefined => (end === undefined ? undefined : at(end.address, end.port));

describeKernel("sockets", () => {
  let node: TestNode;
  let pod: Namespace;
  let cgroup: Disposable;
  let opened: Socket[] = [];

  beforeAll(() => {
    node = createTestNode(1, { xdpRuns: false });
    pod = createNamespace();
    // Any address of these is this namespace's own: backends can be bound to, and everything else is reachable.
    for (const range of ["10.244.0.0/16", "192.168.122.0/24", "10.96.0.0/12"])
      pod.ip(`route add local ${range} dev lo`);
    pod.sysctl("net.ipv6.ip_nonlocal_bind", 1);
    for (const range of ["fd00:10:244::/48", "fd00:10:96::/112"]) pod.ip(`-6 route add local ${range} dev lo`);
    cgroup = joinCgroup(node.dataplane);
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    pod?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });
  beforeEach(() => {
    node.clearFlows();
    node.settings({ sockets: SOCKETS_MODE_VALUES.SOCKETS_ALL });
  });
  afterEach(() => {
    for (const socket of opened.splice(0)) socket.close();
    opened = [];
  });

  const open = (...given: Parameters<typeof openSocket>): Socket => {
    const socket = pod.inside(() => openSocket(...given));
    opened.push(socket);
    return socket;
  };
  const backend = (family: Family, which: "here" | "there" | "hereToo"): Socket => {
    // On loopback a datagram is there when send() returns.
    const socket = open("UDP", family.name, 100);
    socket.bind({ address: family[which], port: 5353 });
    return socket;
  };
  const inside = <T>(body: () => T): T => pod.inside(body);

  /** Kinds of sockets that may ask for an address of the family. */
  const kinds = [
    ["IPv4", V4, "IPv4"],
    ["IPv6", V6, "IPv6"],
    ["IPv4 by an IPv6 socket", V4, "IPv6"],
  ] as const;

  it.each(kinds)(
    "UDP without connect, %s: a backend gets it, the answer bears the address asked",
    async (_, family, socketFamily) => {
      await node.feed(objects(["here"]));
      const server = backend(family, "here");
      const client = open("UDP", socketFamily);
      inside(() => {
        for (let round = 0; round < 3; round++) {
          expect(client.send("ask", { address: family.vip, port: 53 })).toBe("");
          const asked = server.receive();
          expect(asked?.data).toBe("ask");
          expect(server.send("told", asked!.from)).toBe("");
          expect(client.receive()).toEqual({ data: "told", from: { address: family.vip, port: 53 } });
        }
      });
    },
  );

  it.each(kinds)(
    "UDP with connect, %s: the socket talks to a backend and is told the address asked",
    async (_, family, socketFamily) => {
      await node.feed(objects(["here"]));
      const server = backend(family, "here");
      const client = open("UDP", socketFamily);
      inside(() => {
        expect(client.connect({ address: family.vip, port: 53 })).toBe("");
        expect(text(client.realPeer())).toBe(at(family.here, 5353));
        expect(text(client.peerName())).toBe(at(family.vip, 53));
        expect(client.send("ask")).toBe("");
        expect(server.send("told", server.receive()!.from)).toBe("");
        expect(client.receive()).toEqual({ data: "told", from: { address: family.vip, port: 53 } });
      });
    },
  );

  it("UDP without connect: one socket keeps its backend, sockets are spread over both", async () => {
    await node.feed(objects(["here", "there"]));
    const servers = [backend(V4, "here"), backend(V4, "there")];
    const spread = new Set<string>();
    inside(() => {
      for (let i = 0; i < 24; i++) {
        const client = open("UDP");
        for (let round = 0; round < 3; round++) client.send(`${i}`, { address: V4.vip, port: 53 });
      }
    });
    const got = servers.map((server) => {
      const counts = new Map<string, number>();
      inside(() => {
        for (let asked = server.receive(); asked !== undefined; asked = server.receive())
          counts.set(asked.data, (counts.get(asked.data) ?? 0) + 1);
      });
      return counts;
    });
    for (const counts of got) {
      for (const [client, count] of counts) {
        expect(count).toBe(3);
        expect(spread.has(client)).toBe(false);
        spread.add(client);
      }
      expect(counts.size).toBeGreaterThan(2);
    }
    expect(spread.size).toBe(24);
  });

  it("UDP without connect: a backend that went is left for another", async () => {
    await node.feed(objects(["here", "there"]));
    const servers = { here: backend(V4, "here"), there: backend(V4, "there") };
    const client = open("UDP");
    const arrivedAt = (): "here" | "there" =>
      inside(() => {
        client.send("x", { address: V4.vip, port: 53 });
        return servers.here.receive() === undefined ? "there" : "here";
      });
    const first = arrivedAt();
    expect(arrivedAt()).toBe(first);
    const other = first === "here" ? "there" : "here";
    await node.feed(objects([other]));
    expect(arrivedAt()).toBe(other);
  });

  it("UDP without connect: two frontends of one Service are answered under their own names by different backends", async () => {
    await node.feed(objects(["here", "there"]));
    const servers = [backend(V4, "here"), backend(V4, "there")];
    for (let i = 0; i < 6; i++) {
      const client = open("UDP");
      const answers = ["vip", "lb"].map((name) =>
        inside(() => {
          const to = { address: V4[name as "vip" | "lb"], port: 53 };
          client.send(name, to);
          for (const server of servers) {
            const asked = server.receive();
            if (asked !== undefined) server.send("told", asked.from);
          }
          return text(client.receive()?.from);
        }),
      );
      expect(answers).toEqual([at(V4.vip, 53), at(V4.lb, 53)]);
    }
  });

  it("connect() to a plain address forgets what an earlier connect() asked for there", async () => {
    await node.feed(objects(["here"]));
    const client = open("UDP");
    inside(() => {
      client.connect({ address: V4.vip, port: 53 });
      expect(text(client.peerName())).toBe(at(V4.vip, 53));
      client.connect({ address: V4.here, port: 5353 });
      expect(text(client.peerName())).toBe(at(V4.here, 5353));
    });
  });

  it("connect() is spread at random, also on one socket that tries again", async () => {
    await node.feed(objects(["here", "there"]));
    const peers = new Set<string | undefined>();
    const client = open("UDP");
    inside(() => {
      for (let i = 0; i < 32; i++) {
        client.connect({ address: V4.vip, port: 53 });
        peers.add(text(client.realPeer()));
      }
    });
    expect([...peers].sort()).toEqual([at(V4.here, 5353), at(V4.there, 5353)]);
  });

  const itRefuses = itWith("set_retval");
  itRefuses.each(kinds)(
    "%s: without endpoint connect() and sendto() are refused at once",
    async (_, family, socketFamily) => {
      await node.feed(objects([]));
      inside(() => {
        expect(open("TCP", socketFamily).connect({ address: family.vip, port: 80 })).toBe("ECONNREFUSED");
        expect(open("UDP", socketFamily).connect({ address: family.vip, port: 53 })).toBe("ECONNREFUSED");
        expect(open("UDP", socketFamily).send("x", { address: family.vip, port: 53 })).toBe("ECONNREFUSED");
        expect(open("TCP", socketFamily).connect({ address: family.vip, port: 81 })).toBe("ECONNREFUSED");
      });
    },
  );

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: host-only leaves pods alone and serves the host, off leaves both alone",
    async (_, family) => {
      await node.feed(objects(["here"]));
      const peerOf = (namespace: Namespace): string | undefined =>
        namespace.inside(() => {
          const socket = openSocket("UDP", family.name);
          opened.push(socket);
          socket.connect({ address: family.vip, port: 53 });
          return text(socket.realPeer());
        });
      const [asked, served] = [at(family.vip, 53), at(family.here, 5353)];
      const { SOCKETS_ALL, SOCKETS_HOST_ONLY, SOCKETS_OFF } = SOCKETS_MODE_VALUES;
      for (const [sockets, inPod, onHost] of [
        [SOCKETS_ALL, served, served],
        [SOCKETS_HOST_ONLY, asked, served],
        [SOCKETS_OFF, asked, asked],
      ] as const) {
        node.settings({ sockets });
        expect([peerOf(pod), peerOf(node.namespace)]).toEqual([inPod, onHost]);
      }
    },
  );

  it("what is no TCP and no UDP is left alone", async () => {
    await node.feed(objects(["here"]));
    const before = node.verdicts();
    expect(pod.run("ping", "-c", "1", "-w", "2", V4.vip)).toContain("1 received");
    expect(node.verdicts()).toEqual(before);
  });

  it("what they were pointed at is listed once for each, and as retired when the backend left", async () => {
    await node.feed(objects(["here"]));
    inside(() => {
      open("TCP").connect({ address: V4.vip, port: 80 });
      open("UDP").send("x", { address: V4.vip, port: 53 });
    });
    const listed = (): string[] =>
      [...listSocketPeers(node.dataplane)]
        .filter((one) => one !== undefined)
        .map(({ protocol, frontend, backend: of, state }) =>
          [protocol, at(frontend.address, frontend.port), at(of.address, of.port), state].join(" "),
        )
        .sort();
    expect(listed()).toEqual([
      `TCP ${at(V4.vip, 80)} ${at(V4.here, 8080)} pointed`,
      `UDP ${at(V4.vip, 53)} ${at(V4.here, 5353)} pointed`,
    ]);
    await node.feed(objects(["hereToo"]));
    expect(listed().map((line) => line.split(" ").at(-1))).toEqual(["retired", "retired"]);
  });

  it.each(kinds)(
    "with affinity, %s: whoever sends or connects in one namespace reaches one backend",
    async (_, family, kind) => {
      await node.feed(objects(["here", "hereToo"], { affinitySeconds: 60 }));
      const servers = [backend(family, "here"), backend(family, "hereToo")];
      inside(() => {
        for (let i = 0; i < 8; i++) open("UDP", kind).send("x", { address: family.vip, port: 53 });
        for (let i = 0; i < 8; i++) {
          const client = open("UDP", kind);
          client.connect({ address: family.vip, port: 53 });
          client.send("x");
        }
      });
      const got = servers.map((server) =>
        inside(() => {
          let count = 0;
          while (server.receive() !== undefined) count++;
          return count;
        }),
      );
      expect(got.toSorted((a, b) => a - b)).toEqual([0, 16]);
    },
  );

  it("with affinity a socket that asks two frontends still gets a backend for each", async () => {
    await node.feed(objects(["here", "hereToo"], { affinitySeconds: 60 }));
    const servers = [backend(V4, "here"), backend(V4, "hereToo")];
    const client = open("UDP");
    inside(() => {
      for (const address of [V4.vip, V4.lb]) client.send(address, { address, port: 53 });
      const got = servers.map((server) => server.receive()?.data);
      expect(got.toSorted()).toEqual([V4.vip, V4.lb].toSorted());
    });
  });

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "with source ranges, %s: a bound socket of a pod is served or left to its packets by its own address",
    async (_, family) => {
      const sourceRanges = [`${family.pod}/${family === V4 ? 32 : 128}`];
      await node.feed(objects(["here"], { sourceRanges }));
      const isServed = (address: string | undefined): boolean => {
        const socket = open("UDP", family.name);
        if (address !== undefined) socket.bind({ address, port: 0 });
        socket.connect({ address: family.lb, port: 53 });
        return text(socket.realPeer()) === at(family.here, 5353);
      };
      expect(inside(() => [family.pod, family.hereToo, undefined].map(isServed))).toEqual([true, false, false]);
      const server = backend(family, "here");
      inside(() => {
        const bound = open("UDP", family.name);
        bound.bind({ address: family.pod, port: 0 });
        bound.send("bound", { address: family.lb, port: 53 });
        open("UDP", family.name).send("unbound", { address: family.lb, port: 53 });
        expect(server.receive()?.data).toBe("bound");
        expect(server.receive()).toBeUndefined();
      });
    },
  );

  it("with source ranges the host reaches a backend on its own address, as its source is known", async () => {
    const { services } = objects([], { sourceRanges: ["192.168.122.0/24"] });
    const ports = [{ name: "t", protocol: "TCP", port: 8080 }] as const;
    await node.feed({ services, slices: [slice({ ports, endpoints: [endpoint(V4.node)] })] });
    node.namespace.inside(() => {
      using socket = openSocket("TCP");
      socket.connect({ address: V4.lb, port: 80 });
      expect(node.verdicts().get("CONNECT VERDICT_CONNECT")).toBeGreaterThan(0);
    });
  });

  it("connections are counted by Service, apart from packets", async () => {
    await node.feed(objects(["here"]));
    const total = (): bigint => {
      let sum = 0n;
      for (const [, value] of node.dataplane.map("service_stats").entries()) {
        const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
        for (let part = 0; part < value.byteLength; part += 32) sum += view.getBigUint64(part + 24, true);
      }
      return sum;
    };
    const before = total();
    inside(() => {
      open("TCP").connect({ address: V4.vip, port: 80 });
      open("UDP").connect({ address: V4.vip, port: 53 });
      const client = open("UDP");
      for (let i = 0; i < 3; i++) client.send("x", { address: V4.vip, port: 53 });
    });
    expect(total() - before).toBe(3n);
  });
});

describeKernel("sockets below Linux 5.18", () => {
  let node: TestNode;
  let cgroup: Disposable;
  const before = process.env["MILLRACE_WITHOUT"];
  beforeAll(() => {
    process.env["MILLRACE_WITHOUT"] = "set_retval";
    resetFeatures();
    node = createTestNode(1, { xdpRuns: false });
    cgroup = joinCgroup(node.dataplane);
  });
  afterAll(() => {
    if (before === undefined) delete process.env["MILLRACE_WITHOUT"];
    else process.env["MILLRACE_WITHOUT"] = before;
    resetFeatures();
    cgroup?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: TCP is refused by a port that nobody can listen on, UDP gets EPERM",
    async (_, family) => {
      await node.feed(objects([]));
      // The reset comes after connect(), which did not wait for it.
      const refused = await node.namespace.inside(
        () =>
          new Promise<string | undefined>((resolve) => {
            const socket = net.connect({ host: family.vip, port: 80 }, () => resolve("connected"));
            socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
          }),
      );
      const errors = node.namespace.inside(() => {
        using udp = openSocket("UDP", family.name);
        return [udp.connect({ address: family.vip, port: 53 }), udp.send("x", { address: family.vip, port: 53 })];
      });
      expect([refused, ...errors]).toEqual(["ECONNREFUSED", "EPERM", "EPERM"]);
    },
  );
});
