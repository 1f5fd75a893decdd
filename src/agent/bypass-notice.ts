// What is said while all translation is turned off (`millrace bypass on`).
import type { Notice } from "../model/objects.ts";

export const BYPASS_TEXT =
  "nothing is translated: no Service is served by this node; end it with 'millrace bypass off'";

export function bypassNotices(isOn: boolean): Notice[] {
  if (!isOn) return [];
  const message = `bypass is on, ${BYPASS_TEXT}`;
  return [{ object: "Datapath", file: "", field: "", reason: "bypass", message, severity: "error" }];
}
