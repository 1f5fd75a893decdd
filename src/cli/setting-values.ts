// What the texts of settings mean: one reader for each kind of value, which says what a text must be that is none.
import { FLOW_TIMEOUT_NAMES, FLOW_TIMEOUTS, type FlowTimeouts } from "../datapath/flow-timeouts.ts";
import { canonicalAddress, parsePrefix, parseRange } from "../lib/address.ts";
import { parseBindAddress } from "../lib/bind-address.ts";
import { parseDuration } from "../lib/duration.ts";
import type { Range } from "../lib/range.ts";

/** What a text must be, for "NAME must be <this>: current value is 'x'". Thrown by a setting's `read`. */
export class WrongValue extends Error {
  override readonly name: string = "WrongValue";
}

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** Linux: 1 to 15 bytes, no slash, no white space, neither "." nor "..". */
const DEVICE_NAME = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;

/** Syntax of a label's key. */
const LOAD_BALANCER_CLASS = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

export function dnsName(text: string, what: string): string {
  if (text.length === 0 || text.length > 253 || !text.split(".").every((label) => DNS_LABEL.test(label))) {
    throw new WrongValue(`${what} (RFC 1123: lower-case letters, digits, "-" and ".", at most 253)`);
  }
  return text;
}

export function namespaceName(text: string): string {
  if (!DNS_LABEL.test(text)) throw new WrongValue("the name of a namespace");
  return text;
}

export function loadBalancerClass(text: string): string {
  if (text !== "" && !LOAD_BALANCER_CLASS.test(text)) throw new WrongValue("a class such as example.com/lb");
  return text;
}

export function absolutePath(text: string): string {
  if (!text.startsWith("/") || text.includes("\0")) throw new WrongValue("an absolute path");
  return text.length > 1 ? text.replace(/\/+$/, "") : text;
}

export function items(text: string): string[] {
  return text === "" ? [] : text.split(",").map((item) => item.trim());
}

export function deviceNames(text: string): string[] {
  const devices = items(text);
  if (!devices.every((device) => DEVICE_NAME.test(device))) throw new WrongValue("names of network devices");
  return devices;
}

export function oneOf<T extends string>(text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw new WrongValue(`${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`);
  return found;
}

export function portRange(text: string): Range {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text);
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || first < 1 || last > 65535 || first > last) {
    throw new WrongValue("first-last, two ports from 1 to 65535 in this order");
  }
  return { first, last };
}

export function mark(text: string): number {
  const value = /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isInteger(value) || value > 0xffffffff) throw new WrongValue("a 32-bit number such as 0x1000");
  return value;
}

/** SNAT ports are taken from the bits of a hash: the range is reserved whole, and it must hold no listener of the system. */
export function snatPortRange(text: string): Range {
  const range = portRange(text);
  const size = range.last - range.first + 1;
  if (range.first < 1024 || size < 256 || size > 16384) {
    throw new WrongValue("first-last, from 1024 on, 256 to 16384 ports");
  }
  return range;
}

export function clusterRanges(text: string): string[] {
  const ranges = items(text);
  if (ranges.length === 0) return [];
  const families = ranges.map((range) => (range.includes("/") ? parseRange(range)?.family : undefined));
  if (ranges.length > 2 || families.includes(undefined) || families[0] === families[1]) {
    throw new WrongValue("one CIDR, or one of each family (10.96.0.0/12,fd00:10:96::/112)");
  }
  return ranges.map((range) => {
    const [base, length] = range.split("/");
    return `${canonicalAddress((base ?? "").trim())}/${(length ?? "").trim()}`;
  });
}

export function prefixes(text: string): string[] {
  return items(text).map((item) => {
    const prefix = parsePrefix(item);
    if (prefix === undefined) throw new WrongValue("CIDRs such as 192.0.2.0/24");
    return `${prefix.address}/${prefix.length}`;
  });
}

export function bindAddress(text: string): string {
  if (text === "") return "";
  if (parseBindAddress(text) === undefined) throw new WrongValue("ADDRESS:PORT, [ADDRESS]:PORT or :PORT");
  return text;
}

/** The address of an API server; a path, as some proxies want one, is kept. Credentials are the kubeconfig's business. */
export function serverUrl(text: string): string {
  if (text === "") return "";
  // URL would read "https:6443" as the host 0.0.25.43.
  const url = /^https?:\/\//i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || [url.username, url.password, url.search, url.hash].some((part) => part !== "")) {
    throw new WrongValue("https://HOST:PORT, or http:// for tests");
  }
  return url.href.replace(/\/$/, "");
}

export function wholeNumber(text: string, least: number, most: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) throw new WrongValue(`a whole number from ${least} to ${most}`);
  return value;
}

export function unlessEmpty<T>(text: string, read: (text: string) => T): T | undefined {
  return text === "" ? undefined : read(text);
}

/** A time as kube-proxy's flags take it. */
export function seconds(text: string): number {
  const found = parseDuration(text);
  if (found === undefined) throw new WrongValue("a time such as 24h0m0s, or 0");
  return Math.floor(found);
}

/** A flow is swept out a sweep after its time at the latest; jiffies are compared within 24 days of a clock of 1000 Hz. */
const LONGEST_TIMEOUT = 20 * 24 * 3600;

export function flowTimeouts(text: string): FlowTimeouts {
  const given = items(text).map((item) => {
    const [name = "", value = ""] = item.split("=", 2);
    const field = Object.hasOwn(FLOW_TIMEOUT_NAMES, name) ? FLOW_TIMEOUT_NAMES[name] : undefined;
    const seconds = Math.floor(parseDuration(value) ?? 0);
    if (field === undefined || seconds < 1 || seconds > LONGEST_TIMEOUT) {
      const names = Object.keys(FLOW_TIMEOUT_NAMES).join(", ");
      throw new WrongValue(`NAME=DURATION from 1s to 480h, such as tcp-established=24h; names: ${names}`);
    }
    return [field, seconds] as const;
  });
  return { ...FLOW_TIMEOUTS, ...Object.fromEntries(given) };
}
