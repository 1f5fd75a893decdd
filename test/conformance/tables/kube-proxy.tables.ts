// kube-proxy's own tables, asked of our model and of the loaded programs: `make kube-proxy-tables`. Where we mean to differ
// stands in differences.json, with the reason; anything else that differs fails.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { prepare, runPackets } from "../../flows/kernel-executor.ts";
import { mapsOf, trace } from "../../flows/reference.ts";
import { createTestNode, type TestNode } from "../../kernel/datapath/test-node.ts";
import { windowQuestions } from "./categorized.ts";
import DIFFERENCES from "./differences.json" with { type: "json" };
import { type PacketCase, packetCases } from "./packets.ts";

/** Enough that of up to five endpoints each is chosen. */
const FLOWS = 200;

/** What we answer instead, on purpose; undefined: as kube-proxy. */
function differenceOf(name: string): { readonly answer: unknown } | undefined {
  return DIFFERENCES.find(({ cases }) => new RegExp(cases).test(name));
}

/** Endpoints that were chosen over many flows, or the verdict. */
function answerOf(question: Pick<PacketCase["flowCase"], "given" | "to" | "from">): string | string[] {
  const { maps } = mapsOf(question.given);
  const { from: client, to: destination } = question;
  const outcomes = Array.from({ length: FLOWS }, (_, i) =>
    trace(maps, { client, clientPort: 20_000 + i, destination }),
  );
  const [first] = outcomes;
  if (first?.verdict !== undefined) return first.verdict;
  return [...new Set(outcomes.map(({ backend }) => backend ?? ""))].sort();
}

const CLIENTS = { pod: "10.244.1.99", outside: "192.168.122.51", host: "192.168.122.11" } as const;

describe("the windows of kube-proxy's CategorizeEndpoints", () => {
  it.each(windowQuestions())("$name", ({ name, given, from, to, answer }) => {
    const said = answerOf({ given, to, from: { kind: from, address: CLIENTS[from] } });
    expect(said).toEqual(differenceOf(name)?.answer ?? answer);
  });
});

const packets = packetCases();

describe("the packets of kube-proxy's nftables mode, by the model", () => {
  it.each(packets)("$name", ({ name, flowCase, answer }) => {
    expect(answerOf(flowCase)).toEqual(differenceOf(name)?.answer ?? answer);
  });
});

describe("the packets of kube-proxy's nftables mode, by the programs", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node[Symbol.dispose]());

  it.each(packets)("$name", async ({ name, flowCase, answer }) => {
    await prepare(node, flowCase);
    const outcome = runPackets(node, flowCase);
    const said =
      "verdict" in outcome ? outcome.verdict : [...(outcome.kept ?? []), ...(outcome.translated ?? [])].sort();
    expect(said).toEqual(differenceOf(name)?.answer ?? answer);
  });
});
