// Millrace's own version, put in by the build; when the sources run, read from package.json.
import { readFileSync } from "node:fs";

declare const MILLRACE_VERSION: string | undefined;

function fromPackage(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

export const VERSION: string = typeof MILLRACE_VERSION === "string" ? MILLRACE_VERSION : fromPackage();
