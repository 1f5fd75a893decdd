// docs/semantics.md, from the flow cases and their variants: what comes of each field for each client, family and protocol. The
// executors run the same table.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Family, familyOf, unusableReason } from "../../src/lib/address.ts";
import type { Protocol } from "../../src/model/objects.ts";
import { FLOW_CASES, FLOW_VARIANTS } from "./cases.ts";
import type { FlowCase } from "./flow-case.ts";
import { GAPS, type Gap } from "./gaps.ts";

const CLIENTS = ["outside", "a pod's socket", "a pod's packets", "the host's socket", "the host's packets"] as const;
export type Client = (typeof CLIENTS)[number];

const FAMILIES: readonly Family[] = ["IPv4", "IPv6"];
const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP", "SCTP"];
const CELLS = FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => ({ family, protocol })));

/** By which ways a case's client comes. */
function clientsOf({ from, to, packet }: FlowCase): readonly Client[] {
  if (from.kind === "outside") return ["outside"];
  const who = from.kind === "pod" ? "a pod's" : "the host's";
  const unusable = unusableReason(to.address);
  const bySocket = packet === undefined && to.protocol !== "SCTP" && unusable !== "unspecified";
  // What goes to loopback meets no hook for packets.
  const byPacket = from.kind === "pod" || unusable !== "loopback";
  return [...(bySocket ? [`${who} socket` as const] : []), ...(byPacket ? [`${who} packets` as const] : [])];
}

const VERDICT_WORDS = { refuse: "refused", drop: "dropped", pass: "not ours", echo: "answered" } as const;

/** What comes of it, in words; sockets are pointed at backends, whose sight of the client nothing changes. */
function resultOf({ expect, from }: FlowCase, client: Client): string {
  if ("verdict" in expect) return VERDICT_WORDS[expect.verdict];
  if (client.endsWith("socket")) return "served";
  const { kept, translated } = expect;
  if (kept !== undefined && translated !== undefined)
    return `served, translated toward ${from.kind === "pod" ? "itself" : "other nodes"}`;
  return kept === undefined ? "served, translated" : "served";
}

interface Cell {
  /** "field, client, family protocol". */
  readonly name: string;
  readonly results: readonly string[];
  /** Those that say why there are none, whether there are or not. */
  readonly gaps: readonly Gap[];
}

export interface Table {
  readonly field: string;
  readonly rows: readonly { readonly client: Client; readonly cells: readonly Cell[] }[];
  readonly cases: readonly FlowCase[];
}

const unique = <T>(all: readonly T[]): T[] => [...new Set(all)];
const fieldsOf = ({ field }: FlowCase): readonly string[] => field.split(", ");

function cellOf(table: Pick<Table, "field" | "cases">, client: Client, family: Family, protocol: Protocol): Cell {
  const { field, cases } = table;
  const here = cases.filter(
    (one) => familyOf(one.to.address) === family && one.to.protocol === protocol && clientsOf(one).includes(client),
  );
  return {
    name: `${field}, ${client}, ${family} ${protocol}`,
    results: unique(here.map((one) => resultOf(one, client))).sort(),
    gaps: GAPS.filter(
      ({ fields, clients, protocols, families }) =>
        (fields?.includes(field) ?? true) &&
        (clients?.includes(client) ?? true) &&
        (protocols?.includes(protocol) ?? true) &&
        (families?.includes(family) ?? true),
    ),
  };
}

/** One table for each field, in the order of the alphabet; packets that no object asks for come last. */
export function semantics(): Table[] {
  const all = [...FLOW_CASES, ...FLOW_VARIANTS];
  const fields = unique(all.flatMap(fieldsOf)).sort(
    (a, b) => Number(a === "none") - Number(b === "none") || a.localeCompare(b),
  );
  return fields.map((field) => {
    const cases = all.filter((one) => fieldsOf(one).includes(field));
    return {
      field,
      rows: CLIENTS.map((client) => ({
        client,
        cells: CELLS.map(({ family, protocol }) => cellOf({ field, cases }, client, family, protocol)),
      })),
      cases: FLOW_CASES.filter((one) => fieldsOf(one).includes(field)),
    };
  });
}

const allCells = (): Cell[] => semantics().flatMap(({ rows }) => rows.flatMap(({ cells }) => cells));

/** Names of cells that have neither a case nor a reason. */
export function emptyCells(): string[] {
  return allCells()
    .filter(({ results, gaps }) => results.length === 0 && gaps.length === 0)
    .map(({ name }) => name);
}

/** Names of cells that have a reason beside cases, or two, and reasons that no cell has. */
export function needlessGaps(): string[] {
  const cells = allCells();
  return [
    ...cells.filter(({ results, gaps }) => gaps.length > (results.length > 0 ? 0 : 1)).map(({ name }) => name),
    ...GAPS.filter((gap) => !cells.some(({ gaps }) => gaps.includes(gap))).map(({ why }) => why),
  ];
}

function tableText({ field, rows, cases }: Table, reasons: string[]): string {
  const mark = (why: string): string => {
    if (!reasons.includes(why)) reasons.push(why);
    return `[${reasons.indexOf(why) + 1}]`;
  };
  const lines = rows.map(({ client, cells }) => {
    const texts = cells.map(({ results, gaps: [gap] }) =>
      results.length > 0 ? results.join("; ") : mark(gap?.why ?? "no case"),
    );
    return `| ${client} | ${texts.join(" | ")} |`;
  });
  const head = CELLS.map(({ family, protocol }) => `${family} ${protocol}`).join(" | ");
  const list = cases.map(
    (one) => `- ${one.name}: ${unique(clientsOf(one).map((client) => resultOf(one, client))).join("; ")}`,
  );
  const title = field === "none" ? "Packets that no object asks for" : `\`${field}\``;
  return `## ${title}

| client | ${head} |
|---|${CELLS.map(() => "---").join("|")}|
${lines.join("\n")}

${list.join("\n")}
`;
}

export function semanticsPage(): string {
  const reasons: string[] = [];
  const tables = semantics().map((table) => tableText(table, reasons));
  return `# What each field means

Generated by \`make docs\` from the table of flows (\`test/flows\`). Each case is asked of a model of the datapath and of the loaded programs: by
packets at the hook where its client comes in, by XDP before tc for those from outside, by real sockets for those of this node. A case that
names neither protocols nor families itself is asked over the other protocols and in the other family too.

Columns are families and protocols, rows are clients: outside this node; pods and processes of it by their sockets, and by packets that pass their
sockets. A cell holds all that comes of the field's cases there; *translated* says that the backend sees an address of this node instead of the
client's. A number in brackets is the reason why a cell has no case, [below](#cells-without-a-case).

${tables.join("\n")}
## Cells without a case

${reasons.map((why, at) => `${at + 1}. ${why[0]!.toUpperCase()}${why.slice(1)}.`).join("\n")}
`;
}

export function writeSemanticsPage(): void {
  writeFileSync(join(import.meta.dirname, "../../docs/semantics.md"), semanticsPage());
}
