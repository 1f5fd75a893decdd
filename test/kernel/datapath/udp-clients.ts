// UDP clients and servers in namespaces, for tests on the wire: what they ask, who gets it, and under which name they are answered.
import { at } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { type End, openSocket, type Socket } from "./raw-sockets.ts";

export interface Udp {
  connect(address: string, port: number): string;
  /**
   * What was said, and under which name it was answered; else why not. `tries`: so often, a moment each, the server looks for the
   * question, and the client for an error.
   */
  ask(server: Udp, text: string, to?: End, tries?: number): string;
  send(text: string, to?: End): string;
  receive(): ReturnType<Socket["receive"]>;
  /** The errno after a moment: EAGAIN when nothing came. */
  receiveError(): string;
  realPeer(): End | undefined;
  readonly socket: Socket;
}

const MOMENT_MS = 40;
const TRIES = 50;

export interface UdpClients {
  /** A socket in the namespace, bound to the backends' port at this address when that is given. */
  open(namespace: Namespace, kind: "IPv4" | "IPv6", bound?: string): Udp;
  closeAll(): void;
}

export function createUdpClients(backendPort: number): UdpClients {
  const opened: Socket[] = [];

  function open(namespace: Namespace, kind: "IPv4" | "IPv6", bound?: string): Udp {
    const socket = namespace.inside(() => openSocket("UDP", kind, MOMENT_MS));
    opened.push(socket);
    if (bound !== undefined) namespace.inside(() => socket.bind({ address: bound, port: backendPort }));
    const receiveOnce = (): ReturnType<Socket["receive"]> => namespace.inside(() => socket.receive());
    const self: Udp = {
      socket,
      connect: (address, to) => namespace.inside(() => socket.connect({ address, port: to })),
      send: (text, to) => namespace.inside(() => socket.send(text, to)),
      receive() {
        for (let i = 0; i < TRIES; i++) {
          const got = receiveOnce();
          if (got !== undefined) return got;
        }
        return undefined;
      },
      receiveError() {
        const error = namespace.inside(() => socket.receiveError());
        // A child process of this test ended.
        return error === "EINTR" ? self.receiveError() : error;
      },
      realPeer: () => namespace.inside(() => socket.realPeer()),
      ask(server, text, to, tries = TRIES) {
        const failed = self.send(text, to);
        if (failed !== "") return failed;
        for (let i = 0; i < tries; i++) {
          const asked = server.socket.receive();
          if (asked !== undefined) {
            server.send(`re ${asked.data}`, asked.from);
            const answer = self.receive();
            return answer === undefined
              ? "no answer"
              : `${answer.data} from ${at(answer.from.address, answer.from.port)}`;
          }
          const error = self.receiveError();
          if (error !== "EAGAIN") return `nothing arrived, ${error}`;
        }
        return "nothing arrived";
      },
    };
    return self;
  }

  return {
    open,
    closeAll: () => {
      for (const socket of opened.splice(0)) socket.close();
    },
  };
}
