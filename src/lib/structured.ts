// Answers for programs, as JSON or YAML.

export const STRUCTURED = ["json", "yaml"] as const;
export type Structured = (typeof STRUCTURED)[number];

export function isStructured(format: string): format is Structured {
  return STRUCTURED.some((one) => one === format);
}

/** Ends with a new line. */
export async function structured(value: unknown, format: Structured): Promise<string> {
  if (format === "json") return `${JSON.stringify(value, null, 2)}\n`;
  const { yamlText } = await import("./yaml.ts");
  return yamlText(value);
}
