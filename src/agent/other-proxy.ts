// Another proxy on this node, kube-proxy: whether its rules are there, and the connections through our frontends that the kernel goes on
// translating for it. While there are any the programs ask conntrack before they open a flow, and the kernel is kept translating.
import type { Dataplane } from "../datapath/dataplane.ts";
import { PROTOCOLS } from "../datapath/row-codec.ts";
import { NO_SERVICE, serviceAt } from "../datapath/service-at.ts";
import type { OtherProxyFacts } from "../decide/decide.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import { type Prefix, prefixContains } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { run } from "../lib/exec.ts";
import type { Log } from "../lib/log.ts";
import { createPortions } from "../lib/portions.ts";
import { forgetConnection, hasFeature, type TranslatedConnection, translatedConnections } from "../libbpf/mod.ts";
import type { Model } from "../model/model-interface.ts";
import type { Notice } from "../model/objects.ts";
import { createKubeProxyFinder, type KubeProxyProcess } from "./kube-proxy-process.ts";
import { type Ask, readKubeProxyRules } from "./kube-proxy-rules.ts";
import { keepNatHooks, releaseNatHooks } from "./nat-hooks.ts";

export interface OtherProxyParts {
  readonly dataplane: Pick<Dataplane, "map">;
  readonly model: Pick<Model, "serviceById">;
  readonly serviceRanges: readonly Prefix[];
  /** Rows of all objects are in force. */
  readonly isInForce: () => boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export interface OtherProxy {
  /** Looks once. Rejects when the kernel could not be asked, or its translation not be kept. */
  look(tell: (facts: OtherProxyFacts) => void): Promise<void>;
  notices(): readonly Notice[];
}

/**
 * Of `connections` those through something of ours. A UDP conversation keeps its entry as long as somebody sends, wherever it leads: as
 * kube-proxy did, those to backends that left are to be forgotten.
 */
export async function sortConnections(
  connections: readonly TranslatedConnection[],
  { dataplane, model, serviceRanges }: Pick<OtherProxyParts, "dataplane" | "model" | "serviceRanges">,
): Promise<{ ours: TranslatedConnection[]; stale: TranslatedConnection[] }> {
  const ours: TranslatedConnection[] = [];
  const stale: TranslatedConnection[] = [];
  const backends = new Map<number, ReadonlySet<string>>();
  const backendsOf = (serviceId: number): ReadonlySet<string> => {
    let known = backends.get(serviceId);
    if (known === undefined) {
      const list = model.serviceById(serviceId)?.backends ?? [];
      known = new Set(list.map(({ address, port }) => `${address} ${port}`));
      backends.set(serviceId, known);
    }
    return known;
  };
  const portions = createPortions();
  for (const connection of connections) {
    if (portions.isOver()) await portions.next();
    const { proto, destination, backend } = connection;
    const service = serviceAt(dataplane, destination.address, destination.port, proto);
    if (service === undefined && !serviceRanges.some((range) => prefixContains(range, destination.address))) continue;
    const isStale =
      proto === PROTOCOLS.UDP &&
      service !== undefined &&
      service !== NO_SERVICE &&
      !backendsOf(service).has(`${backend.address} ${backend.port}`);
    (isStale ? stale : ours).push(connection);
  }
  return { ours, stale };
}

export function createOtherProxy(parts: OtherProxyParts): OtherProxy {
  const { log, signal, isInForce } = parts;
  const ask: Ask = (command, args) => run(command, args, { signal });
  const findKubeProxy = createKubeProxyFinder();
  let facts: OtherProxyFacts = { running: "", rules: [], connections: 0 };

  return {
    async look(tell) {
      const running = await findKubeProxy();
      const rules = await readKubeProxyRules(ask);
      const { ours, stale } = await sortConnections(await translatedConnections(), parts);
      // What comes while the agent ends finds its maps closed.
      if (signal.aborted) return;
      const forgotten = isInForce() ? stale.filter(forgetConnection).length : 0;
      if (forgotten > 0)
        log.info({ connections: forgotten }, "forgot UDP conversations of another proxy's, whose backend left");
      facts = { running: textOf(running), rules, connections: ours.length + stale.length - forgotten };
      const isThere = rules.length > 0 || facts.connections > 0;
      const problem = isThere ? await keepNatHooks(ask) : "";
      if (!isThere && (await releaseNatHooks(ask)).length > 0)
        log.info("the last connection that kube-proxy translated has ended");
      if (signal.aborted) return;
      tell(facts);
      if (problem !== "") throw new Failure("machine", "nat hooks", problem);
    },
    notices: () => lookupNotices(facts, hasFeature("ct_lookup")),
  };
}

function textOf(running: KubeProxyProcess | undefined): string {
  if (running === undefined) return "";
  return running.pid === 0 ? "it answers on 127.0.0.1:10249" : `process ${running.pid}`;
}

/** What is said where kube-proxy's connections cannot be told from others. */
export function lookupNotices(
  { rules, connections }: Pick<OtherProxyFacts, "rules" | "connections">,
  canAsk: boolean,
): readonly Notice[] {
  if (canAsk || (rules.length === 0 && connections === 0)) return [];
  const message = `programs cannot ask conntrack here (it takes Linux 5.18 with nf_conntrack and its type information): connections that kube-proxy opened are taken for ours in their middle, and TCP ones end when that leads to another backend (now ${connections})`;
  return [machineNotice("Connections of kube-proxy", "other-connections-unknown", message)];
}
