// Reads what tells a platform: the Node object, files, firmware. Changes nothing.
import { existsSync } from "node:fs";
import type { RawNode } from "../../kube/api-examination.ts";
import { textOf } from "./machine-reading.ts";
import { PLATFORM_FILES, type PlatformFacts } from "./platform.ts";

const fields = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
const textIn = (value: unknown): string => (typeof value === "string" ? value : "");

/** `node`: undefined where there is none, or it cannot be read. */
export function readPlatform(node: RawNode | undefined): PlatformFacts {
  const labels = fields(fields(node?.["metadata"])["labels"]);
  const system = fields(fields(node?.["status"])["nodeInfo"]);
  const dmi = ["sys_vendor", "product_name", "product_version", "board_vendor", "bios_vendor", "chassis_asset_tag"];
  return {
    labels: Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, textIn(value)])),
    providerId: textIn(fields(node?.["spec"])["providerID"]),
    osImage: textIn(system["osImage"]),
    kubeletVersion: textIn(system["kubeletVersion"]),
    osId: /^ID="?([^"\n]+)/m.exec(textOf("/etc/os-release"))?.[1] ?? "",
    files: PLATFORM_FILES.filter((path) => existsSync(path)),
    dmi: [...new Set(dmi.map((name) => textOf(`/sys/class/dmi/id/${name}`).trim()).filter((text) => text !== ""))],
  };
}
