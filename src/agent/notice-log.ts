// Says on the log when a notice begins and when it ends. Compares lists; knows nothing of where notices come from.
import type { Log } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";

export interface NoticeLog {
  /** Takes all notices that there are now. */
  note(notices: readonly Notice[]): void;
}

/** So many lines at once, then one a second: a thousand wrong objects are counted, not told one by one. */
const BURST = 40;
const LINE_MS = 1000;

/** Numbers may change, as when it counts, and line and column in a file that is edited: the notice is the same. */
export function noticeIdentity(notice: Notice): string {
  const known = identities.get(notice);
  if (known !== undefined) return known;
  const { object, file, field, reason, message } = notice;
  const place = file.replace(/:\d+:\d+$/, "");
  const found = [object.replace(file, place), place, field, reason, message.replace(/\d+/g, "#")].join("\0");
  identities.set(notice, found);
  return found;
}

/** Most notices stay the same objects from one look to the next. */
const identities = new WeakMap<Notice, string>();

/** `now` in milliseconds, for tests. */
export function createNoticeLog(log: Log, now: () => number = () => performance.now()): NoticeLog {
  let known: ReadonlyMap<string, Notice> = new Map();
  let lines = BURST;
  let countedAt = now();
  const untold = { began: 0, ended: 0 };

  function mayTell(): boolean {
    const passed = Math.floor((now() - countedAt) / LINE_MS);
    lines = Math.min(BURST, lines + passed);
    countedAt += passed * LINE_MS;
    if (lines === 0) return false;
    lines--;
    return true;
  }

  function began({ severity, message, object, file, field, reason }: Notice): void {
    if (!mayTell()) untold.began++;
    else log[severity === "warning" ? "warn" : severity]({ reason, object, file, field }, message);
  }

  function ended({ message, object, file, field, reason }: Notice): void {
    if (!mayTell()) untold.ended++;
    else log.info({ reason, object, file, field }, `over: ${message}`);
  }

  return {
    note(notices) {
      const current = new Map(notices.map((notice) => [noticeIdentity(notice), notice]));
      for (const [id, notice] of known) if (!current.has(id)) ended(notice);
      for (const [id, notice] of current) if (!known.has(id)) began(notice);
      known = current;
      if ((untold.began > 0 || untold.ended > 0) && mayTell()) {
        log.warn({ ...untold }, "more notices began or ended than are told here; `millrace status` shows those of now");
        untold.began = untold.ended = 0;
      }
    },
  };
}
