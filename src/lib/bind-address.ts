// An address and port to listen on, from the text of a flag. Never resolves a name.
import { canonicalAddress } from "./address.ts";

export interface BindAddress {
  /** Canonical address; "" means every address of both families. */
  readonly host: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
}

/** `10.0.0.1:80`, `[::1]:80`, `:80`, or undefined when the text is none of them. */
export function parseBindAddress(text: string): BindAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  if (port > 65535) return undefined;
  const [, ipv6, ipv4] = match;
  if (ipv6 === undefined && ipv4 === "") return { host: "", port };
  const host = canonicalAddress(ipv6 ?? ipv4 ?? "");
  if (host === undefined || host.includes(":") !== (ipv6 !== undefined)) return undefined;
  return { host, port };
}

/**
 * An IPv4 address alone, "::" or [ADDRESS] with this port; any other text as it is. Another IPv6 address without brackets is left alone: it
 * may have been meant to end in a port.
 */
export function withPort(text: string, port: number): string {
  const bracketed = /^\[([^\]]+)\]$/.exec(text)?.[1];
  const address = canonicalAddress(bracketed ?? text);
  if (address === undefined || (bracketed === undefined && address.includes(":") && address !== "::")) return text;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
