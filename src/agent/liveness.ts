// This node's part in telling who lives: what its kernel program answers with, the keys for it, and the link that asks others. Who is
// asked, and what follows, the announcer decides.
import type { Dataplane } from "../datapath/dataplane.ts";
import { nodeIdOf } from "../l2/liveness-message.ts";
import { macText } from "../lib/mac.ts";
import { clockBoottimeNs } from "../libbpf/mod.ts";
import type { Notice } from "../model/objects.ts";
import { createAnnouncerSecret } from "./announcer-secret.ts";
import { createLivenessLink, type LivenessLink } from "./liveness-link.ts";
import type { AgentOptions } from "./options.ts";
import type { Timers } from "./timers.ts";

export interface Liveness {
  readonly link: LivenessLink;
  /** Nodes can be asked: there is a port and a key, or it is not known yet that there is none. */
  isOn(): boolean;
  /** Of this node's uplinks. */
  setMacs(macs: readonly Uint8Array[]): void;
  /** A second has passed: whether all that it announces is sound, and whether it has just been renewed. */
  renew(state: { readonly sound: boolean; readonly renews: boolean }): void;
  /** `announces`: there are addresses to announce. */
  notices(announces: boolean): readonly Notice[];
  stop(): void;
}

/** The kubelet brings a changed Secret within a minute. */
const SECRET_MS = 10_000;

type Wishes = Pick<AgentOptions, "nodeName" | "livenessPort" | "announcerSecret" | "manifests">;

/** What is answered goes on without this process: nothing here takes it back, but for a port of 0. */
export function createLiveness(options: Wishes, dataplane: Pick<Dataplane, "liveness">, timers: Timers): Liveness {
  const { livenessPort: port, nodeName, announcerSecret } = options;
  const row = dataplane.liveness;
  const nodeId = nodeIdOf(nodeName);
  const secret = createAnnouncerSecret(port === 0 ? "" : announcerSecret);
  const link = createLivenessLink({ port, nodeId, keys: secret.keys, clock: () => performance.now() });

  /** Until then it is not known that there is no key: what an agent before announced is not given up for want of one. */
  let hasRead = false;

  async function readSecret(): Promise<void> {
    // Until the files were read an agent before this one may have left keys, which go on.
    const isOther = await secret.read();
    hasRead = true;
    if (isOther && !timers.isStopped()) row.listen(port, secret.keys());
  }

  row.identify({ nodeId, incarnation: Date.now() });
  if (port === 0 || announcerSecret === "") row.listen(0, []);
  else timers.after(0, readSecret);
  timers.every(SECRET_MS, readSecret);

  function off(): readonly Notice[] {
    // Alone, or without addresses, there is nobody to take over from.
    const why =
      port === 0
        ? "--liveness-port is 0"
        : announcerSecret === ""
          ? "--announcer-secret names no directory"
          : "it has no key";
    const then = "nodes take over each other's addresses when a Node object says that one is gone, not sooner";
    const message = `nodes cannot ask each other whether they live, as ${why}: ${then}`;
    return [{ object: "Announcer", file: "", field: "", reason: "no-liveness", message, severity: "warning" }];
  }

  const isOn = (): boolean => port !== 0 && announcerSecret !== "" && (!hasRead || secret.keys().length > 0);
  return {
    link,
    isOn,
    setMacs(macs) {
      const texts = macs.map((mac) => macText(mac)).filter((mac) => mac !== "00:00:00:00:00:00");
      row.setMacs([...new Set(texts)]);
    },
    renew({ sound, renews }) {
      // Without a key it follows nobody, though its kernel answers by those of an agent before.
      row.renew(clockBoottimeNs(), { isSound: sound && isOn(), isLeaving: false, renews });
    },
    notices(announces) {
      const isAlone = options.manifests.length > 0 && announcerSecret === "";
      return [...secret.notices(), ...(isOn() || isAlone || !announces ? [] : off())];
    },
    stop: link.stop,
  };
}
