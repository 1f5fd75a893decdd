// Which names Kubernetes allows where (RFC 1035, RFC 1123, RFC 6335 and label syntax). Each function says what is wrong, in
// the API server's words, or undefined when nothing is. And the letters that tell a generated name from others.
import { createHash } from "node:crypto";

const LABEL_1123 = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

function tooLong(name: string, limit: number): string | undefined {
  return name.length > limit ? `must be no more than ${limit} characters` : undefined;
}

/** Ports, hostnames, namespaces. */
export function dnsLabelProblem(name: string): string | undefined {
  return (
    tooLong(name, 63) ??
    (LABEL_1123.test(name)
      ? undefined
      : "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character")
  );
}

/** Names of Services. */
export function dns1035Problem(name: string): string | undefined {
  return (
    tooLong(name, 63) ??
    (LABEL_1035.test(name)
      ? undefined
      : "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character")
  );
}

/** Names of most objects, external names. */
export function subdomainProblem(name: string): string | undefined {
  return (
    tooLong(name, 253) ??
    (SUBDOMAIN.test(name)
      ? undefined
      : "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character")
  );
}

/** Names that are one segment of a path: RBAC objects. */
export function pathSegmentProblem(name: string): string | undefined {
  if (name === "." || name === "..") return `may not be '${name}'`;
  return /[/%]/.test(name) ? "may not contain '/' or '%'" : tooLong(name, 253);
}

/** Named target ports (RFC 6335 service names). */
export function portNameProblem(name: string): string | undefined {
  if (name.length > 15) return "must be no more than 15 characters";
  if (!/^[-a-z0-9]+$/.test(name)) return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
  if (!/[a-z]/.test(name)) return "must contain at least one letter (a-z)";
  if (name.includes("--")) return "must not contain consecutive hyphens";
  return name.startsWith("-") || name.endsWith("-") ? "must not begin or end with a hyphen" : undefined;
}

/** Keys of labels, annotations and selectors: an optional prefix and a name. */
export function labelKeyProblem(key: string): string | undefined {
  const slash = key.indexOf("/");
  if (slash >= 0) {
    const problem = subdomainProblem(key.slice(0, slash));
    if (problem !== undefined) return `prefix part: ${problem}`;
  }
  const name = key.slice(slash + 1);
  if (name.length > 63) return "name part must be no more than 63 characters";
  return QUALIFIED.test(name)
    ? undefined
    : "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
}

export function labelValueProblem(value: string): string | undefined {
  if (value === "") return undefined;
  if (value.length > 63) return "must be no more than 63 characters";
  return QUALIFIED.test(value)
    ? undefined
    : "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
}

const LETTERS = "bcdfghjklmnpqrstvwxz2456789";

/** Bytes as the part of a generated object's name is written that tells it from others. */
export function nameLetters(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => LETTERS[byte % LETTERS.length]).join("");
}

/** So many letters that differ by content. */
export function contentLetters(content: string, count: number): string {
  return nameLetters(createHash("sha256").update(content).digest().subarray(0, count));
}
