// LoadBalancer addresses: who answers for which, what changed hands, what conflicts, how much of the pools is given.
import { dashboard, graph, of, type Section, stat, table } from "./panels.ts";

const SPEAKERS: Section = {
  title: "Who answers for which address?",
  panels: [
    stat({ title: "Addresses answered for", about: "By some node.", width: 4 }, [
      `count(count by (address) (${of("millrace_announced_address_info")}))`,
      "",
    ]),
    stat(
      {
        ...{ title: "Without a speaker", width: 4, bad: 1 },
        about: "Addresses that some node ought to answer for, and none does.",
      },
      [
        `count(millrace_elected_address_info{job=~"$job"} unless on (address) millrace_announced_address_info{job=~"$job"}) or vector(0)`,
        "",
      ],
    ),
    stat(
      {
        ...{ title: "With two speakers", width: 4, bad: 1 },
        about: "Addresses that more than one node answers for: they do not hear each other.",
      },
      [
        `count(count by (address) (count by (address, instance) (millrace_announced_address_info{job=~"$job"})) > 1) or vector(0)`,
        "",
      ],
    ),
    stat(
      {
        ...{ title: "Not with the elected node", width: 4, warn: 1 },
        about:
          "Addresses that another node than the best one answers for: it took over, and hands back after a minute of the better one's health.",
      },
      [
        `count(millrace_announced_address_info{job=~"$job"} unless on (address, job, instance) millrace_elected_address_info{job=~"$job"}) or vector(0)`,
        "",
      ],
    ),
    stat(
      {
        ...{ title: "No node may", width: 4, warn: 1 },
        about: "Addresses of pools that no node may answer for; the reasons are below.",
      },
      [`max(sum by (instance) (${of("millrace_unannounced_addresses")}))`, ""],
    ),
    stat(
      {
        ...{ title: "In conflict", width: 4, bad: 1 },
        about: "Notices address-in-use: another machine, or a second Service, wants the address.",
      },
      [`sum(${of("millrace_notices", 'reason="address-in-use"')}) or vector(0)`, ""],
    ),
    table(
      {
        ...{
          title: "Addresses and the nodes that answer for them",
          width: 16,
          value: "answers",
          hidden: ["__name__", "job"],
        },
        about: "One row for each address, node and device.",
      },
      of("millrace_announced_address_info"),
    ),
    table(
      {
        ...{ title: "Why no node may", width: 8, value: "addresses" },
        about:
          "Each reason is explained in docs/runbooks/MillraceNoSpeaker.md. not-advertised: no L2Advertisement covers the pool.",
      },
      `max by (reason) (${of("millrace_unannounced_addresses")})`,
    ),
    graph(
      {
        ...{ title: "Addresses by node", width: 24, stacked: true },
        about: "How they are spread. A step is a node that came or went.",
      },
      [of("millrace_announced_addresses"), "{{instance}}"],
    ),
  ],
};

const TAKEOVERS: Section = {
  title: "What changed hands?",
  panels: [
    graph(
      {
        ...{ title: "Takeovers", width: 8, unit: "short" },
        about:
          "Addresses claimed in the last five minutes after a node that answered for them, or ought to, did not any more.",
      },
      [`sum by (instance) (increase(${of("millrace_announcer_takeovers_total")}[5m]))`, "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "How long a takeover takes", width: 8, unit: "s", warn: 1, bad: 5 },
        about:
          "The mean over the range shown: from the last sign of life of the node before to the claim. No line: none yet.",
      },
      [
        `sum by (instance) (increase(${of("millrace_announcer_takeover_seconds_total")}[$__range])) / (sum by (instance) (increase(${of("millrace_announcer_takeovers_total")}[$__range])) > 0)`,
        "{{instance}}",
      ],
    ),
    graph(
      {
        ...{ title: "Claims, hand-backs, yields", width: 8 },
        about:
          "In the last five minutes, on all nodes. A yield is an address left to another node that was heard to answer too.",
      },
      [`sum(increase(${of("millrace_announcer_claims_total")}[5m]))`, "claims"],
      [`sum(increase(${of("millrace_announcer_hand_backs_total")}[5m]))`, "hand-backs"],
      [`sum(increase(${of("millrace_announcer_yields_total")}[5m]))`, "yields"],
    ),
    graph(
      {
        ...{ title: "What nodes know of each other", width: 12 },
        about:
          "Peers by state, over all nodes. unheard or gone for long: a firewall before UDP 7948, another secret, or a dead node.",
      },
      [`sum by (state) (${of("millrace_announcer_peers")})`, "{{state}}"],
    ),
    graph(
      {
        ...{ title: "Conflicts", width: 12, bad: 1 },
        about:
          "Checks in the last five minutes that found a machine which is no node. `millrace status` names address and MAC.",
      },
      [`sum by (instance) (increase(${of("millrace_announcer_conflicts_total")}[5m]))`, "{{instance}}"],
    ),
  ],
};

const POOLS: Section = {
  title: "Pools (of millrace-controller)",
  panels: [
    graph(
      {
        ...{ title: "Part of each pool that is given", width: 12, unit: "percentunit", max: 1, warn: 0.9, bad: 1 },
        about: "By family. At 1 new Services stay without an address.",
      },
      [
        "max by (pool, family) (millrace_controller_pool_addresses_assigned / (millrace_controller_pool_addresses_assigned + millrace_controller_pool_addresses_available > 0))",
        "{{pool}} {{family}}",
      ],
    ),
    table(
      { ...{ title: "Free addresses", width: 6, value: "free" }, about: "Of each pool." },
      "max by (pool, family) (millrace_controller_pool_addresses_available)",
    ),
    table(
      {
        ...{ title: "Services without an address", width: 6, value: "Services" },
        about: "By reason; each has a heading in docs/troubleshooting.md, and the Service an event.",
      },
      "max by (reason) (millrace_controller_services_pending)",
    ),
    stat({ ...{ title: "Leaders", width: 4 }, about: "Processes that lead: one, when all is well." }, [
      "sum(millrace_controller_leads)",
      "",
    ]),
    stat(
      {
        ...{ title: "Configuration", width: 4 },
        about: "1: the pools there are, are in force. 0: an older configuration is, as the present one is refused.",
      },
      ["min(millrace_controller_configuration_valid)", ""],
    ),
    stat({ ...{ title: "Services of ours", width: 4 }, about: "Of type LoadBalancer." }, [
      "max(millrace_controller_services)",
      "",
    ]),
    graph(
      {
        ...{ title: "Writes to the API", width: 12, unit: "ops" },
        about: "By what became of them, with those that wait.",
      },
      ["sum by (write, outcome) (rate(millrace_controller_writes_total[$__rate_interval]))", "{{write}} {{outcome}}"],
      ["max(millrace_controller_writes_waiting)", "waiting"],
    ),
    graph(
      {
        ...{ title: "A decision takes", width: 12, unit: "s", warn: 1 },
        about: "How long the last one took, of the process that leads.",
      },
      ["max by (instance) (millrace_controller_decision_seconds)", "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "Events that were not written", width: 12, unit: "ops", bad: 1 },
        about: "So much was to be told that some of it found no room.",
      },
      ["sum(rate(millrace_controller_events_dropped_total[$__rate_interval]))", "dropped"],
    ),
  ],
};

export const layer2 = (): unknown =>
  dashboard(
    "millrace-layer2",
    "Millrace / Layer 2 and addresses",
    "LoadBalancer addresses: who answers for which, what changed hands, what conflicts, how much of the pools is given.",
    [SPEAKERS, TAKEOVERS, POOLS],
  );
