// What MetalLB's admission refuses in an IPAddressPool or an L2Advertisement on its own.
import { parseRange } from "../lib/address.ts";
import type { Checks } from "./field-checks.ts";
import { checkSelector } from "./label-selector.ts";

type Fields = Readonly<Record<string, unknown>>;

function checkSelectors(checks: Checks, field: string, value: unknown): void {
  for (const [i, one] of (checks.list(field, value) ?? []).entries()) checkSelector(checks, `${field}[${i}]`, one);
}

export function checkAddressPool(checks: Checks, object: Fields): void {
  const spec = checks.record("spec", object["spec"]);
  if (spec === undefined) {
    checks.required("spec");
    return;
  }
  const addresses = checks.strings("spec.addresses", spec["addresses"]) ?? [];
  if (addresses.length === 0) checks.required("spec.addresses");
  for (const [i, text] of addresses.entries()) {
    if (parseRange(text) === undefined) {
      checks.invalid(
        `spec.addresses[${i}]`,
        text,
        "must be a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20",
      );
    }
  }
  checks.boolean("spec.autoAssign", spec["autoAssign"]);
  checks.boolean("spec.avoidBuggyIPs", spec["avoidBuggyIPs"]);
  const allocation = checks.record("spec.serviceAllocation", spec["serviceAllocation"]);
  const priority = checks.integer("spec.serviceAllocation.priority", allocation?.["priority"]);
  if (priority !== undefined && priority < 0)
    checks.invalid("spec.serviceAllocation.priority", priority, "must not be negative");
  checks.strings("spec.serviceAllocation.namespaces", allocation?.["namespaces"]);
  checkSelectors(checks, "spec.serviceAllocation.namespaceSelectors", allocation?.["namespaceSelectors"]);
  checkSelectors(checks, "spec.serviceAllocation.serviceSelectors", allocation?.["serviceSelectors"]);
}

/** Preferences with their weights: MetalLB's CRD has both required, and weights from 1 to 100. */
function checkPreferences(checks: Checks, field: string, value: unknown): void {
  for (const [at, one] of checks.records(field, value)) {
    const weight = checks.integer(`${at}.weight`, one["weight"]);
    if (weight === undefined && (one["weight"] ?? undefined) === undefined) checks.required(`${at}.weight`);
    if (weight !== undefined && (weight < 1 || weight > 100))
      checks.invalid(`${at}.weight`, weight, "must be between 1 and 100, inclusive");
    if ((one["preference"] ?? undefined) === undefined) checks.required(`${at}.preference`);
    checkSelector(checks, `${at}.preference`, one["preference"]);
  }
}

export function checkL2Advertisement(checks: Checks, object: Fields): void {
  const spec = checks.record("spec", object["spec"]);
  checks.strings("spec.ipAddressPools", spec?.["ipAddressPools"]);
  checks.strings("spec.interfaces", spec?.["interfaces"]);
  checkSelectors(checks, "spec.ipAddressPoolSelectors", spec?.["ipAddressPoolSelectors"]);
  checkSelectors(checks, "spec.nodeSelectors", spec?.["nodeSelectors"]);
  checkSelectors(checks, "spec.serviceSelectors", spec?.["serviceSelectors"]);
  checkPreferences(checks, "spec.preferredNodeSelectors", spec?.["preferredNodeSelectors"]);
}
