// What is said while all translation is turned off (`millrace bypass on`).
import { machineNotice } from "../decide/machine-notice.ts";
import type { Notice } from "../model/objects.ts";

export const BYPASS_TEXT =
  "nothing is translated: no Service is served by this node; end it with 'millrace bypass off'";

export function bypassNotices(isOn: boolean): Notice[] {
  return isOn ? [machineNotice("Datapath", "bypass", `bypass is on, ${BYPASS_TEXT}`, "error")] : [];
}
