// `status` as text: facts, what is wrong, then devices, addresses and maps. Pure; the words are those of agent/view.ts.
import { BYPASS_TEXT } from "../agent/bypass-notice.ts";
import type { AgentStatus } from "../agent/view.ts";
import { age, bytes, printable, saidOnce, table } from "../lib/text.ts";
import type { Notice } from "../model/objects.ts";
import { type Tone, toned, wrapped } from "./table.ts";

const orNone = (texts: readonly string[]): string => (texts.length === 0 ? "<none>" : texts.join(","));

/** The worst first. */
const SEVERITIES = ["error", "warning", "info"] as const;
const TONES: Readonly<Record<Notice["severity"], Tone>> = { error: "bad", warning: "warning", info: "dim" };

/** Something is wrong that an operator has to mend. */
export function isInTrouble({ healthy, notices }: Pick<AgentStatus, "healthy" | "notices">): boolean {
  return !healthy || notices.some(({ severity }) => severity === "error");
}

function noticeCounts(notices: readonly Notice[]): string {
  const counts = SEVERITIES.map((severity) => ({
    count: notices.filter((notice) => notice.severity === severity).length,
    word: severity,
  })).filter(({ count }) => count > 0);
  if (counts.length === 0) return "none";
  return counts.map(({ count, word }) => `${count} ${word}${count === 1 || word === "info" ? "" : "s"}`).join(", ");
}

function worstTone(notices: readonly Notice[]): Tone | undefined {
  const worst = SEVERITIES.find((severity) => notices.some((notice) => notice.severity === severity));
  return worst === undefined ? "good" : TONES[worst];
}

/** Two lines or more each: what it is about, then what it says. `see`: where its reason is explained. */
function noticesText(notices: readonly (Notice & { readonly see?: string })[], colour: boolean, width: number): string {
  const pages = new Set(notices.flatMap(({ see }) => (see === undefined ? [] : [see.split("#", 1)[0]!])));
  const explained = pages.size === 0 ? "" : `Each reason is explained in ${[...pages].join(", ")}.\n`;
  const texts = SEVERITIES.flatMap((severity) => notices.filter((notice) => notice.severity === severity))
    .map((notice) => {
      const { severity, reason, file, object } = notice;
      const about = [reason, object === file ? "" : object, file].filter((text) => text !== "").map(printable);
      const indent = " ".repeat(9);
      const text = wrapped(printable(saidOnce(notice)), width, indent);
      return `${toned(severity.padEnd(9), TONES[severity], colour)}${about.join("  ")}\n${indent}${text}\n`;
    })
    .join("");
  return texts + explained;
}

/** `width`: of the terminal, in characters. */
export function statusText(
  status: AgentStatus,
  { colour, width }: { readonly colour: boolean; readonly width: number },
  nowMs: number = Date.now(),
): string {
  const parts = [facts(status, nowMs, colour)];
  if (status.notices.length > 0) parts.push(noticesText(status.notices, colour, width));
  const section = (title: string, header: readonly string[], rows: readonly (readonly string[])[]) => {
    if (rows.length > 0) parts.push(`${title}:\n${table(header, rows, "  ")}`);
  };
  section(
    "Kubernetes API",
    ["RESOURCE", "STATE", "LAST-EVENT", "RELISTS", "HELD-LISTS", "ERRORS"],
    (status.source.api?.resources ?? []).map((resource) => [
      resource.resource,
      resourceState(resource),
      since(resource.lastEventMs, nowMs),
      reasonCounts(resource.relists),
      String(resource.heldLists),
      reasonCounts(resource.errors),
    ]),
  );
  section(
    "Devices",
    ["NAME", "INDEX", "ROLE", "PROGRAMS"],
    status.devices.map(({ name, ifindex, role, programs }) => [name, String(ifindex), role, orNone(programs)]),
  );
  section(
    "Not in force",
    ["WHAT", "SINCE", "NEXT-TRY", "ERROR"],
    status.effects
      .filter(({ ok }) => !ok)
      .map(({ name, sinceMs, nextTryMs, error }) => [
        name,
        since(sinceMs, nowMs),
        nextTryMs > nowMs ? `in ${age(nextTryMs - nowMs)}` : "now",
        error,
      ]),
  );
  section(
    "Announced addresses",
    ["ADDRESS", "DEVICE", "SERVICE"],
    status.announced.map(({ address, device, service }) => [address, device, service]),
  );
  section(
    "Maps",
    ["MAP", "USED", "ENTRIES", "MEMORY"],
    status.capacity.map((map) => [map.map, String(map.used), String(map.entries), bytes(map.bytes)]),
  );
  section(
    "Missing on this kernel",
    ["FEATURE", "NEEDS", "INSTEAD"],
    status.degraded.map(({ feature, needs, instead }) => [feature, needs, instead]),
  );
  return parts.join("\n");
}

function since(ms: number, nowMs: number): string {
  return ms === 0 ? "never" : `${age(nowMs - ms)} ago`;
}

type Api = NonNullable<AgentStatus["source"]["api"]>;

function resourceState({ connected, synced, absent }: Api["resources"][number]): string {
  if (absent) return "absent";
  if (connected) return synced ? "watching" : "listing";
  return synced ? "disconnected" : "connecting";
}

/** gone:2,silent:1 */
function reasonCounts(counts: Readonly<Record<string, number>>): string {
  const seen = Object.entries(counts).filter(([, count]) => count > 0);
  return orNone(seen.map(([reason, count]) => `${reason}:${count}`));
}

/** The server, and the client certificate's end where there is one. */
function apiFacts({ server, certificateExpiresAt }: Api, nowMs: number): string {
  const answering = server === "" ? "no server has answered yet" : `server ${server}`;
  if (certificateExpiresAt === undefined) return answering;
  const endsMs = certificateExpiresAt * 1000;
  const end = endsMs > nowMs ? `ends in ${age(endsMs - nowMs)}` : `ended ${since(endsMs, nowMs)}`;
  return `${answering}, client certificate ${end}`;
}

function facts(status: AgentStatus, nowMs: number, colour: boolean): string {
  const { source, lastApply } = status;
  const pending = status.appliedDigest === source.digest ? "" : "; a newer state is not in force yet";
  const applied = `${lastApply.operations} operations in ${lastApply.durationMs.toFixed(1)} ms, ${since(lastApply.atMs, nowMs)}`;
  const lines: [string, string][] = [
    ...(status.bypass ? [["BYPASS", `ON: ${BYPASS_TEXT}`] satisfies [string, string]] : []),
    ["Node", `${status.node}, Millrace ${status.version}, up ${age(nowMs - status.startedMs)}`],
    ["Notices", noticeCounts(status.notices)],
    ["Health", status.healthy ? "healthy" : `not healthy: ${status.unhealthy.join("; ")}`],
    [
      "Source",
      `${source.kind}, ${source.synced ? "synced" : "not synced"}, last change ${since(source.lastEventMs, nowMs)}`,
    ],
    ...(source.api === undefined ? [] : [["API", apiFacts(source.api, nowMs)] satisfies [string, string]]),
    ["Applied", `${applied}${pending}${lastApply.error === "" ? "" : `; failed: ${lastApply.error}`}`],
    ["Datapath", `sockets ${status.sockets}, XDP ${status.xdp}, attached by ${status.attach}`],
    ["Layout", status.layout],
  ];
  return lines
    .map(([name, text]) => {
      const isBad = name === "BYPASS" || (name === "Health" && !status.healthy);
      const tone = isBad ? "bad" : name === "Notices" ? worstTone(status.notices) : undefined;
      return `${`${name}:`.padEnd(10)}${toned(printable(text), tone, colour)}\n`;
    })
    .join("");
}
