// Reads fields of Kubernetes objects as they are in JSON, of which nothing is known to be there. Pure.

export type Loose = Readonly<Record<string, unknown>>;

/** What lies at `path`, undefined when any part of the way is missing. */
export function field(object: unknown, ...path: readonly string[]): unknown {
  let found: unknown = object;
  for (const part of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, part)) return undefined;
    found = (found as Loose)[part];
  }
  return found;
}

/** "" for what is no text. */
export function text(object: unknown, ...path: readonly string[]): string {
  const found = field(object, ...path);
  return typeof found === "string" ? found : "";
}

/** 0 for what is no number. */
export function count(object: unknown, ...path: readonly string[]): number {
  const found = field(object, ...path);
  return typeof found === "number" ? found : 0;
}

/** The items of a list, empty for what is none. */
export function items(object: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = field(object, ...path);
  return Array.isArray(found) ? found : [];
}

/** A map of texts: labels, annotations, data. */
export function texts(object: unknown, ...path: readonly string[]): Readonly<Record<string, string>> {
  const found = field(object, ...path);
  if (typeof found !== "object" || found === null || Array.isArray(found)) return {};
  const pairs = Object.entries(found).filter((pair): pair is [string, string] => typeof pair[1] === "string");
  return Object.fromEntries(pairs);
}

/** Whether these labels have each of a selector's, as "a=b,c=d". */
export function hasLabels(labels: Readonly<Record<string, string>>, selector: string): boolean {
  return selector.split(",").every((pair) => {
    const [key = "", value] = pair.split("=");
    return labels[key] === value;
  });
}
