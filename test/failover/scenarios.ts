// What is done to whoever announces an address. The same for every product; what a client notices is the result.

import { join } from "node:path";
import { inNamespace, runChecked } from "../../src/lab/shell.ts";
import type { Family } from "../../src/lib/address.ts";
import type { Stage } from "./stage.ts";

export interface Scenario {
  readonly name: string;
  /** For the page. */
  readonly title: string;
  /** @default IPv4 */
  readonly family?: Family;
  /** Fewer where one takes long. @default all that are asked for */
  readonly runs?: number;
  /** Only where there is such a thing. */
  readonly needs?: "an event loop" | "an API";
  /** Who has the address serves nobody, whatever the product does. */
  readonly isUnserved?: true;
  /** Somebody else has the address before the product is told of it. */
  readonly before?: (stage: Stage) => Promise<void>;
  play(stage: Stage): Promise<void>;
}

const LIMIT_MS = 30_000;

async function cutPower(stage: Stage): Promise<void> {
  const { site, holder } = stage;
  await site.cutPower(holder);
  await stage.recovered(LIMIT_MS, 2000);
  await stage.take();
  await site.restorePower(holder);
}

const killAgentFor = (ms: number) => async (stage: Stage) => {
  const { site, holder } = stage;
  await site.killAgent(holder);
  await stage.pause(ms);
  await site.startAgent(holder);
  await site.settled();
  await stage.recovered(LIMIT_MS, 3000);
  await stage.take();
};

function signal(stage: Stage, name: "SIGSTOP" | "SIGCONT"): void {
  for (const pid of stage.site.agentPids(stage.holder)) process.kill(pid, name);
}

/** Cut off from the other nodes, not from the client, and joined again. */
async function splitAndHeal(stage: Stage): Promise<void> {
  const { lan } = stage.site;
  await lan.split([stage.holder], stage.others);
  await stage.pause(5000);
  await stage.take({ isSplit: true });
  await lan.heal();
  stage.mark();
  await stage.recovered(LIMIT_MS, 4000);
  await stage.take();
}

export const SCENARIOS: readonly Scenario[] = [
  { name: "power-cut", title: "A node's power is cut", play: cutPower },
  { name: "power-cut-ipv6", title: "A node's power is cut, IPv6", family: "IPv6", play: cutPower },
  {
    name: "link-down",
    title: "The link of a node is down, and up again soon after the client is served",
    async play(stage) {
      const { lan } = stage.site;
      await lan.linkDown(stage.holder);
      await stage.recovered(LIMIT_MS, 2000);
      await stage.pause(1000);
      await lan.linkUp(stage.holder);
      await stage.pause(4000);
      await stage.recovered(LIMIT_MS);
      await stage.take();
    },
  },
  { name: "agent-killed-1s", title: "The agent is killed, and started 1 s later", play: killAgentFor(1000) },
  {
    name: "agent-killed-60s",
    title: "The agent is killed, and started 60 s later",
    runs: 3,
    play: killAgentFor(60_000),
  },
  {
    name: "agent-killed",
    title: "The agent is killed for ever (75 s are watched)",
    runs: 3,
    async play(stage) {
      await stage.site.killAgent(stage.holder);
      await stage.recovered(110_000, 75_000);
      await stage.take();
      await stage.site.startAgent(stage.holder);
    },
  },
  {
    name: "agent-stopped",
    title: "The agent is stopped (SIGSTOP) for 20 s, and goes on",
    runs: 5,
    async play(stage) {
      signal(stage, "SIGSTOP");
      await stage.pause(20_000);
      signal(stage, "SIGCONT");
      await stage.recovered(LIMIT_MS, 4000);
      await stage.take();
    },
  },
  {
    name: "loop-blocked",
    title: "The agent's event loop is blocked for 5 s",
    runs: 5,
    needs: "an event loop",
    async play(stage) {
      const { site, holder } = stage;
      const [pid] = site.agentPids(holder);
      const script = join(import.meta.dirname, "block-loop.ts");
      const command = [process.execPath, "--no-warnings", script, `${pid}`, "5000"];
      const [file = "", ...args] = inNamespace(site.lan.namespace(holder), command);
      await runChecked(file, args, { timeoutMs: 30_000 });
      await stage.recovered(LIMIT_MS, 2000);
      await stage.take();
    },
  },
  {
    name: "frozen-node",
    title: "Every process of a node stands still for 20 s, its kernel goes on",
    runs: 5,
    async play(stage) {
      const { site, holder } = stage;
      await site.freeze(holder);
      await stage.pause(20_000);
      await site.thaw(holder);
      await stage.recovered(LIMIT_MS, 4000);
      await stage.take();
    },
  },
  {
    name: "split",
    title: "The announcing node is cut off from the others for 6 s, then they meet again",
    play: splitAndHeal,
  },
  {
    name: "split-second",
    title: "The same, where the announcing node had taken over from a better one",
    runs: 5,
    async play(stage) {
      const { lan } = stage.site;
      const first = stage.holder;
      await lan.linkDown(first);
      await stage.recovered(LIMIT_MS, 2000);
      await lan.linkUp(first);
      await stage.calm(LIMIT_MS);
      await splitAndHeal(stage);
    },
  },
  {
    name: "flapping-node",
    title: "The link of a node is down for 2 s and up for 2 s, eight times",
    runs: 5,
    async play(stage) {
      const { lan } = stage.site;
      for (let i = 0; i < 8; i++) {
        await lan.linkDown(stage.holder);
        await stage.pause(2000);
        await lan.linkUp(stage.holder);
        await stage.pause(2000);
      }
      await stage.recovered(LIMIT_MS, 3000);
      await stage.take();
    },
  },
  {
    name: "foreign-host",
    title: "A host outside the cluster has the address already when the Service comes",
    runs: 5,
    isUnserved: true,
    async before(stage) {
      await stage.site.lan.foreignHost(stage.address);
      stage.watch();
      await stage.expose();
    },
    async play(stage) {
      await stage.pause(7000);
      await stage.take();
    },
  },
  {
    name: "proxy-arp",
    title: "A router answers for every address (proxy ARP) when a node's power is cut",
    runs: 5,
    async play(stage) {
      await stage.site.lan.proxyArpRouter();
      await stage.pause(1000);
      await cutPower(stage);
    },
  },
  {
    name: "neigh-suppress",
    title: "The bridge answers for hosts that it knows (neigh_suppress) when a node's power is cut",
    runs: 5,
    async play(stage) {
      await stage.site.lan.suppressNeighbours(stage.site.announcers, stage.address);
      await stage.calm(LIMIT_MS);
      await cutPower(stage);
    },
  },
  {
    name: "snooping",
    title: "The bridge snoops multicast when a node's power is cut, IPv6",
    family: "IPv6",
    runs: 5,
    async play(stage) {
      await stage.site.lan.snoopMulticast();
      await stage.pause(3000);
      await stage.calm(LIMIT_MS);
      await cutPower(stage);
    },
  },
  {
    name: "two-nics",
    title: "Each node has two devices in the subnet; both of the announcing node go down",
    runs: 5,
    async play(stage) {
      const { lan, announcers } = stage.site;
      await lan.secondNics(announcers);
      await stage.pause(3000);
      await stage.take();
      await Promise.all([lan.linkDown(stage.holder), lan.secondNicsDown(stage.holder)]);
      await stage.recovered(LIMIT_MS, 2000);
      await stage.take();
    },
  },
  {
    name: "api-away",
    title: "The API is away for 15 s, and the agent is started anew meanwhile",
    runs: 5,
    needs: "an API",
    async play(stage) {
      const { site, holder } = stage;
      await site.api?.away();
      await stage.pause(3000);
      await site.killAgent(holder);
      await site.startAgent(holder);
      await stage.pause(12_000);
      await site.api?.back();
      await stage.recovered(LIMIT_MS, 5000);
      await stage.take();
    },
  },
  {
    name: "upgrade",
    title:
      "All agents are replaced one after the other; Millrace's by another version, with another layout of the maps",
    runs: 3,
    async play(stage) {
      await stage.site.upgrade();
      await stage.recovered(LIMIT_MS, 3000);
      await stage.take();
    },
  },
];
