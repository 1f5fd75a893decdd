// The same flow case over the other protocols and in the other family: what a field means does not depend on them, and this is how the
// executors find out. Cases that name protocols or families themselves have no variants.
import { isIP } from "node:net";
import type { Protocol } from "../../src/model/objects.ts";
import type { FlowCase } from "./flow-case.ts";

const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP", "SCTP"];

/** The lab's networks: an address of the first becomes the one of the second with the same last number. */
const NETWORKS: readonly (readonly [RegExp, (match: RegExpExecArray) => string])[] = [
  [
    /^10\.(9[6-9]|1[01]\d)\.(\d+)\.(\d+)$/,
    ([, , high, low]) => `fd00:10:96::${((Number(high) << 8) | Number(low)).toString(16)}`,
  ],
  [/^192\.168\.122\.(\d+)$/, ([, last]) => `fd00:192:168:122::${last}`],
  [/^203\.0\.113\.(\d+)$/, ([, last]) => `2001:db8:113::${last}`],
  [/^10\.244\.(\d+)\.(\d+)$/, ([, node, last]) => `fd00:10:244:${node}::${last}`],
];

/** As millrace.io/weights has them. */
const WEIGHTS = /^[\d.]+=[^,]*(,[\d.]+=[^,]*)*$/;

/** Every text in `value`, passed through `change`. */
function mapped<T>(value: T, change: (text: string) => string): T {
  if (typeof value === "string") return change(value) as T;
  if (Array.isArray(value)) return value.map((one: unknown) => mapped(one, change)) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, mapped(one as unknown, change)])) as T;
}

function textsOf(value: unknown): string[] {
  const found: string[] = [];
  mapped(value, (text) => {
    found.push(text);
    return text;
  });
  return found;
}

function overProtocol(flowCase: FlowCase, protocol: Protocol): FlowCase {
  const { name, ...rest } = flowCase;
  return { ...mapped(rest, (text) => (text === "TCP" ? protocol : text)), name: `${name} (${protocol})` };
}

/** undefined when it has no counterpart. */
function addressInIPv6(text: string): string | undefined {
  for (const [pattern, change] of NETWORKS) {
    const match = pattern.exec(text);
    if (match !== null) return change(match);
  }
  return undefined;
}

/** undefined when some address of the case has no counterpart, or it has both families already. */
function inIPv6(flowCase: FlowCase): FlowCase | undefined {
  const { name, given, expect, ...rest } = flowCase;
  // Nodes have both families; networks, ranges and the like are of a length.
  const { services, slices, hostPorts, networks, externalIPRanges, ...others } = given;
  if (networks !== undefined || externalIPRanges !== undefined) return undefined;
  if (others.nodePortAddresses?.some((one) => one.includes("/"))) return undefined;
  const objects = { services, slices, hostPorts, rest };
  let isWhole = true;
  const change = (text: string): string => {
    if (text === "IPv4") return "IPv6";
    const end = /^(.*):(\d+)$/.exec(text);
    const isEnd = end !== null && isIP(end[1]!) !== 0;
    const address = isEnd ? end[1]! : text;
    if (isIP(address) === 0) {
      if (WEIGHTS.test(text)) return text.replace(/[\d.]+(?==)/g, change);
      // Ranges and the like.
      if (/\d+\.\d+\.\d+\.\d+/.test(text)) isWhole = false;
      return text;
    }
    const other = address.includes(":") ? undefined : addressInIPv6(address);
    if (other === undefined || isIP(other) === 0) isWhole = false;
    return isEnd ? `[${other}]:${end[2]}` : (other ?? text);
  };
  const changed = mapped(objects, change);
  const expected = mapped(expect, change);
  if (!isWhole || textsOf(expect).some((text) => text.startsWith("["))) return undefined;
  const { rest: from, ...objectsNow } = changed;
  const clean = Object.fromEntries(Object.entries(objectsNow).filter(([, one]) => one !== undefined));
  return { ...from, given: { ...clean, ...others }, expect: expected, name: `${name} (IPv6)` };
}

/** The case's variants: it is not among them itself. */
export function variantsOf(flowCase: FlowCase): FlowCase[] {
  const words = new Set(textsOf({ ...flowCase, name: "" }));
  if (words.has("UDP") || words.has("SCTP")) return [];
  const families = [flowCase, inIPv6(flowCase)].filter((one) => one !== undefined);
  // UDP has no packet that answers a handshake.
  const protocols = PROTOCOLS.filter((one) => one !== "UDP" || flowCase.packet !== "syn-ack");
  return families
    .flatMap((one) => protocols.map((protocol) => (protocol === "TCP" ? one : overProtocol(one, protocol))))
    .filter((one) => one !== flowCase);
}
