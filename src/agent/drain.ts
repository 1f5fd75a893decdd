// `millrace cleanup --drain`: hands a node over to whoever serves Services beside us. Frontends open nothing any more, what would open a
// flow goes on as it came; flows that are known are translated until they end. Then all is removed. No agent runs meanwhile: the programs
// and maps are there. What was set stays when this is cut short: the same command goes on, and an agent that starts takes it back.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { sweepFlows } from "../datapath/flow-sweep.ts";
import { readHz } from "../datapath/flow-table.ts";
import { FLOW_TIMEOUTS, type FlowTimeouts } from "../datapath/flow-timeouts.ts";
import { FINGERPRINT, SETTING_FLAG_VALUES } from "../datapath/layout.gen.ts";
import { countLiveFlows, type LiveFlows } from "../datapath/live-flows.ts";
import { loadDataplaneAsync } from "../datapath/load.ts";
import { MAPS_PREFIX, STAGING_PREFIX } from "../datapath/saved-layouts.ts";
import { Failure } from "../lib/errors.ts";
import { inPortions } from "../lib/portions.ts";
import { type CleanupResult, lockForCleanup, removeAll } from "./cleanup.ts";
import { readFlowTimeouts } from "./conntrack-timeouts.ts";
import { askPatiently, readKubeProxyRules } from "./kube-proxy-rules.ts";
import type { AgentOptions } from "./options.ts";

export interface DrainOptions {
  /** What is left after so long is cut. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Hears how many flows there are, when the number is another and at least every ten seconds. */
  readonly progress: (flows: LiveFlows, waitedMs: number) => void;
  /** Hears it when nobody is there to serve what is new. */
  readonly alone: () => void;
}

export interface DrainResult extends CleanupResult {
  /** Flows that had not ended in time. */
  readonly cut: LiveFlows;
  readonly waitedMs: number;
}

/** The maps are there, and keep their sizes. */
const ANY_SIZES: AgentOptions["mapSizes"] = {
  services: 64,
  frontends: 64,
  backends: 64,
  slots: 64,
  flows: 1024,
  openings: 64,
};
const NONE: LiveFlows = { TCP: 0, UDP: 0, SCTP: 0 };
const LOOK_MS = 500;
const SWEEP_EVERY = 10;
const TELL_MS = 10_000;
/** Nobody waits for handshakes that lead nowhere as long as while frontends open: what comes again opens elsewhere. */
const HANDSHAKE_SECONDS = 10;
const { SETTING_DRAINING, SETTING_OTHER_PROXY } = SETTING_FLAG_VALUES;

const INTERRUPTED =
  "could not drain: it was interrupted, and frontends open nothing; the same command goes on, 'millrace cleanup' ends it, an agent that starts takes it back";

const sumOf = (flows: LiveFlows): number => Object.values(flows).reduce((sum, count) => sum + count, 0);

function timeouts(): FlowTimeouts {
  const found = readFlowTimeouts(FLOW_TIMEOUTS);
  return {
    ...found,
    tcpSynSentSeconds: Math.min(found.tcpSynSentSeconds, HANDSHAKE_SECONDS),
    tcpSynReceivedSeconds: Math.min(found.tcpSynReceivedSeconds, HANDSHAKE_SECONDS),
    sctpOpeningSeconds: Math.min(found.sctpOpeningSeconds, HANDSHAKE_SECONDS),
  };
}

/** Are there maps to drain? Throws Failure "conflict" when another build's are among them: only that knows their flows. */
function hasMaps(pinDir: string): boolean {
  const own = MAPS_PREFIX + FINGERPRINT;
  const found = (existsSync(pinDir) ? readdirSync(pinDir) : []).filter(
    (name) => name.startsWith(MAPS_PREFIX) || name.startsWith(STAGING_PREFIX),
  );
  const others = found.filter((name) => name.startsWith(MAPS_PREFIX) && name !== own);
  if (others.length > 0) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not drain: ${others.map((name) => join(pinDir, name)).join(", ")} were made by another build; use that build's command, start this one's agent once, or clean up without --drain`,
    );
  }
  return found.includes(own);
}

/**
 * Waits until no flow is left, then removes all. Rejects with Failure "conflict" while an agent runs, when another build's maps are
 * there, and when the signal aborts: nothing was removed then.
 */
export async function drain(
  places: Pick<AgentOptions, "pinDir" | "stateDir">,
  options: DrainOptions,
): Promise<DrainResult> {
  using _lock = lockForCleanup(places);
  const began = performance.now();
  const isThere = hasMaps(places.pinDir);
  if (isThere && (await readKubeProxyRules(askPatiently)).length === 0) options.alone();
  const cut = isThere ? await waitForFlows(places, options) : NONE;
  const waitedMs = performance.now() - began;
  return { ...(await removeAll(places)), cut, waitedMs };
}

/** Returns what is left when the time is over. */
async function waitForFlows(
  { pinDir, stateDir }: Pick<AgentOptions, "pinDir" | "stateDir">,
  { timeoutMs, signal, progress }: DrainOptions,
): Promise<LiveFlows> {
  const only = ["tc_clocks"];
  const loaded = await loadDataplaneAsync({ pinDir, stateDir, mapSizes: ANY_SIZES, l3: false, xdp: false, only });
  try {
    const { dataplane } = loaded;
    const settings = dataplane.readSettings();
    dataplane.writeSettings({ ...settings, flags: settings.flags | SETTING_DRAINING | SETTING_OTHER_PROXY });
    const hz = readHz(dataplane);
    const began = performance.now();
    let told = { flows: -1, atMs: 0 };
    for (let look = 0; ; look++) {
      if (look % SWEEP_EVERY === 0) await sweepFlows(dataplane, hz, timeouts());
      const flows = await inPortions(countLiveFlows(dataplane, hz));
      const waitedMs = performance.now() - began;
      const sum = sumOf(flows);
      if (sum !== told.flows || waitedMs - told.atMs >= TELL_MS) {
        told = { flows: sum, atMs: waitedMs };
        progress(flows, waitedMs);
      }
      if (sum === 0 || waitedMs >= timeoutMs) return flows;
      await delay(Math.min(LOOK_MS, timeoutMs - waitedMs), undefined, { signal }).catch(() => {
        throw new Failure("conflict", pinDir, INTERRUPTED);
      });
    }
  } finally {
    loaded.close();
  }
}
