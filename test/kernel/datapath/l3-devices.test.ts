// Devices without a link header, as they are: tun devices whose far end is this test. A test run shows what a program makes of a
// packet, not whether the kernel then sends it (trap A12).
import fs from "node:fs";
import koffi from "koffi";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { type Attachments, createAttachments } from "../../../src/datapath/attach.ts";
import { DEVICE, DEVICE_FLAG_VALUES, writeDevice } from "../../../src/datapath/layout.gen.ts";
import type { Address } from "../../../src/lib/address.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, objects, portsOf, send, V4 } from "./conversation.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { describePacket, packet, parsePacket } from "./packet.ts";
import { openSocket } from "./raw-sockets.ts";
import { createTestNode, macOf, type TestNode } from "./test-node.ts";

const TUNSETIFF = 0x400454ca;
const IFF_TUN_NO_PI = 0x0001 | 0x1000;
const CLIENT_PORT = 40_000;
const CLIENTS: Readonly<Record<Family["name"], Address>> = { IPv4: "203.0.113.7", IPv6: "fd00:203::7" };
const SOURCES: Readonly<Record<Family["name"], Address>> = { IPv4: "10.9.1.1", IPv6: "fd00:9:1::1" };

interface Tun extends Disposable {
  readonly ifindex: number;
  /** The packet comes in by the device. */
  put(packet: Uint8Array): void;
  /** What went out of it next, within a second; what the device itself says to its link is left out. */
  take(): Promise<Uint8Array | undefined>;
}

const ioctl = koffi.load("libc.so.6").func("int ioctl(int fd, unsigned long request, void *argument)");

function createTun(namespace: Namespace, name: string): Tun {
  const fd = namespace.inside(() => {
    const opened = fs.openSync("/dev/net/tun", fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    const request = new Uint8Array(40);
    request.set(Buffer.from(name));
    new DataView(request.buffer).setUint16(16, IFF_TUN_NO_PI, true);
    if (ioctl(opened, TUNSETIFF, request) !== 0) throw new Error(`could not make ${name}`);
    return opened;
  });
  namespace.ip(`link set ${name} up`);
  const buffer = new Uint8Array(2048);
  const next = (): Uint8Array | undefined => {
    try {
      return buffer.slice(0, fs.readSync(fd, buffer));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
      throw error;
    }
  };
  return {
    ifindex: namespace.ifindex(name),
    put: (bytes) => void fs.writeSync(fd, bytes),
    async take() {
      for (const deadline = Date.now() + 1000; Date.now() < deadline; ) {
        const found = next();
        if (found === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
        else if (!parsePacket(found, { link: false }).destination.startsWith("ff02:")) return found;
      }
      return undefined;
    },
    [Symbol.dispose]: () => fs.closeSync(fd),
  };
}

describeKernel("devices without a link header, on the wire", () => {
  const stack = new DisposableStack();
  let node: TestNode;
  let backend: Namespace;
  let near: Tun;
  let far: Tun;

  beforeAll(() => {
    node = stack.use(createTestNode(1, { xdpRuns: false }));
    const { namespace, dataplane } = node;
    backend = stack.use(createNamespace());
    namespace.ip(`link set in2 netns ${backend.name} name eth0 address ${macOf("pod", 2)}`);
    backend.ip("link set eth0 up");
    backend.ip("addr add 10.244.1.2/24 dev eth0");
    backend.ip("addr add fd00:10:244:1::2/64 dev eth0 nodad");
    backend.ip("route add default via 10.244.1.1");
    backend.ip("route add default via fd00:10:244:1::1");
    near = stack.use(createTun(namespace, "tun0"));
    far = stack.use(createTun(namespace, "tun1"));
    namespace.ip("route add 203.0.113.0/24 dev tun0");
    namespace.ip("route add fd00:203::/64 dev tun0");
    namespace.ip("route replace 10.244.9.0/24 dev tun1");
    namespace.ip("route del fd00:10:244:9::/64");
    namespace.ip("route add fd00:10:244:9::/64 dev tun1");
    const attachments: Attachments = namespace.inside(() =>
      createAttachments({ pinDir: node.pinDir, stateDir: node.stateDir }),
    );
    stack.defer(() => attachments.close());
    for (const [name, { ifindex }] of [
      ["tun0", near],
      ["tun1", far],
    ] as const) {
      const value = new Uint8Array(DEVICE.size);
      writeDevice(value, 0, {
        master: 0,
        flags: DEVICE_FLAG_VALUES.DEVICE_NO_LINK_HEADER,
        mtu: 1500,
        mac: new Uint8Array(6),
        accepts: new Uint8Array(6),
        source4: SOURCES.IPv4,
        source6: SOURCES.IPv6,
        pod4: "::",
        pod6: "::",
      });
      dataplane.map("devices").update(new Uint8Array(Uint32Array.of(ifindex).buffer), value);
      namespace.inside(() =>
        attachments.attachDevice(name, ifindex, {
          ingress: dataplane.program("tc_uplink_in_l3"),
          egress: dataplane.program("tc_uplink_out_l3"),
        }),
      );
    }
  });
  afterAll(() => stack.dispose());
  afterEach(() => node.clearFlows());

  const ways = FAMILIES.flatMap((family) => (["TCP", "UDP"] as const).map((transport) => [family, transport] as const));
  const asked = (family: Family, transport: "TCP" | "UDP", fields: Parameters<typeof send>[4] = {}): Uint8Array => {
    const to = { address: family.node, port: portsOf(transport).nodePort };
    return send(packet(), transport, { address: CLIENTS[family.name], port: CLIENT_PORT }, to, fields);
  };
  const text = (bytes: Uint8Array | undefined): string =>
    bytes === undefined ? "nothing" : describePacket(bytes, { link: false });

  it.each(ways.map(([family, transport]) => [family.name, transport, family] as const))(
    "%s %s: in by one, to another node's pod by another, and back",
    async (_name, transport, family) => {
      await node.feed(objects(["far"]));
      const { nodePort, target } = portsOf(transport);
      near.put(asked(family, transport));
      const forwarded = await far.take();
      expect(text(forwarded)).toContain(`> ${family === V4 ? family.far : `[${family.far}]`}:${target}`);
      const { source, sourcePort, problems } = parsePacket(forwarded!, { link: false });
      expect([source, problems]).toEqual([SOURCES[family.name], []]);
      far.put(
        send(
          packet(),
          transport,
          { address: family.far, port: target },
          { address: source, port: sourcePort },
          { flags: "SA" },
        ),
      );
      const answer = parsePacket((await near.take())!, { link: false });
      expect(answer).toMatchObject({
        source: family.node,
        sourcePort: nodePort,
        destination: CLIENTS[family.name],
        destinationPort: CLIENT_PORT,
        problems: [],
      });
      // An established flow goes the same way.
      near.put(asked(family, transport, { flags: "A", payload: 5 }));
      expect(text(await far.take())).toContain(`:${target}`);
    },
  );

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: a pod's answer that leaves by one is translated back",
    async (_name, family) => {
      await node.feed(objects(["here"]));
      using server = backend.inside(() => openSocket("UDP", family.name));
      server.bind({ address: family.here, port: 5353 });
      near.put(asked(family, "UDP"));
      const received = backend.inside(() => server.receive());
      expect(received?.from).toEqual({ address: CLIENTS[family.name], port: CLIENT_PORT });
      expect(backend.inside(() => server.send("answer", received!.from))).toBe("");
      expect(parsePacket((await near.take())!, { link: false })).toMatchObject({
        source: family.node,
        sourcePort: 30053,
        destination: CLIENTS[family.name],
        destinationPort: CLIENT_PORT,
        problems: [],
      });
    },
  );
});
