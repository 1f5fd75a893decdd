// Command lines of the cluster's programs.

/** `--name=value` for each, in their order. */
export function flags(values: Readonly<Record<string, string | number | boolean>>): string[] {
  return Object.entries(values).map(([name, value]) => `--${name}=${value}`);
}
