// Connected UDP sockets whose backend is gone, on real devices: packets carry their sockets, which no test run's packet does. Pods'
// conversations go on to a living backend, the host's are refused, and nothing reaches whoever has the old address now.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { endpoint, service, slice } from "../../flows/builders.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, FAMILIES, type Family, objects, portsOf, V4 } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { openSocket, type Socket } from "./raw-sockets.ts";
import { createWires, type Wires } from "./wires.ts";

const { port, target } = portsOf("UDP");

describeKernel("connected UDP sockets", () => {
  let wires: Wires;
  let cgroup: Disposable;
  let opened: { readonly namespace: Namespace; readonly socket: Socket }[] = [];
  beforeAll(() => {
    wires = createWires();
    cgroup = joinCgroup(wires.node.dataplane);
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    wires?.[Symbol.dispose]();
  });
  beforeEach(() => wires.node.clearFlows());
  afterEach(() => {
    for (const { socket } of opened) socket.close();
    opened = [];
  });

  interface Udp {
    connect(address: string, port: number): string;
    /** What was said, and under which name it was answered: an errno where either failed. */
    ask(server: Udp, text: string, to?: { address: string; port: number }): string;
    send(text: string, to?: { address: string; port: number }): string;
    receive(): ReturnType<Socket["receive"]>;
    receiveError(): string;
    readonly socket: Socket;
    readonly namespace: Namespace;
  }

  function open(namespace: Namespace, family: Family, bound?: string, waitMs = 300): Udp {
    const socket = namespace.inside(() => openSocket("UDP", family.name, waitMs));
    opened.push({ namespace, socket });
    if (bound !== undefined) namespace.inside(() => socket.bind({ address: bound, port: target }));
    const self: Udp = {
      socket,
      namespace,
      connect: (address, to) => namespace.inside(() => socket.connect({ address, port: to })),
      send: (text, to) => namespace.inside(() => socket.send(text, to)),
      receive: () => namespace.inside(() => socket.receive()),
      receiveError: () => namespace.inside(() => socket.receiveError()),
      ask(server, text, to) {
        const failed = self.send(text, to);
        if (failed !== "") return failed;
        const asked = server.receive();
        if (asked === undefined) return `nothing arrived, ${self.receiveError()}`;
        server.send(`re ${asked.data}`, asked.from);
        const answer = self.receive();
        return answer === undefined ? "no answer" : `${answer.data} from ${at(answer.from.address, answer.from.port)}`;
      },
    };
    return self;
  }

  const here = (family: Family): Udp => open(wires.backend, family, family.here);
  const there = (family: Family): Udp => open(wires.remote, family, family.there);
  const answered = (text: string, family: Family): string => `re ${text} from ${at(family.vip, port)}`;

  for (const family of FAMILIES) {
    it(`${family.name}: a pod's socket goes on with a living backend under the name that it asked for, and back`, async () => {
      const { node } = wires;
      await node.feed(objects(["there"]));
      const [remote, local] = [there(family), here(family)];
      const client = open(wires.pod, family);
      expect(client.connect(family.vip, port)).toBe("");
      expect(client.ask(remote, "one")).toBe(answered("one", family));
      await node.feed(objects(["here"]));
      expect(client.ask(local, "two")).toBe(answered("two", family));
      expect(node.flowTexts()).toHaveLength(2);
      await node.feed(objects(["there"]));
      expect(client.ask(remote, "three")).toBe(answered("three", family));
    });
  }
});
void [endpoint, service, slice, V4];
