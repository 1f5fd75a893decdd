// The annotation millrace.io/weights of an EndpointSlice: how many new flows each endpoint gets beside the others. It is written by
// people and by other controllers, so it may hold anything.
import { type Address, canonicalAddress } from "../lib/address.ts";

export const WEIGHTS_ANNOTATION = "millrace.io/weights";

const MOST = 1000;

/** "ADDRESS=WEIGHT,..." or a JSON object of addresses; endpoints that it does not name have weight 1. A string says what is wrong. */
export function parseWeights(text: string): ReadonlyMap<Address, number> | string {
  const pairs = text.trimStart().startsWith("{") ? fromJson(text) : fromList(text);
  if (typeof pairs === "string") return pairs;
  const weights = new Map<Address, number>();
  for (const [name, value] of pairs) {
    const address = canonicalAddress(name.trim());
    if (address === undefined) return `"${name.trim()}" is no IP address`;
    if (!Number.isInteger(value) || value < 0 || value > MOST) {
      return `the weight of ${address} must be a whole number from 0 to ${MOST}`;
    }
    if (weights.has(address)) return `${address} has two weights`;
    weights.set(address, value);
  }
  return weights;
}

function fromJson(text: string): readonly (readonly [string, number])[] | string {
  try {
    const value: unknown = JSON.parse(text);
    return Object.entries(value as object).map(([name, weight]) => [
      name,
      typeof weight === "number" ? weight : Number.NaN,
    ]);
  } catch {
    return "it is no JSON object";
  }
}

function fromList(text: string): (readonly [string, number])[] {
  const items = text.split(",").filter((item) => item.trim() !== "");
  return items.map((item) => {
    const at = item.lastIndexOf("=");
    const weight = item.slice(at + 1).trim();
    return [at < 0 ? item : item.slice(0, at), at >= 0 && /^\d{1,9}$/.test(weight) ? Number(weight) : Number.NaN];
  });
}
