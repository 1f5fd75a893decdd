// The programs of this build over the rows that are there: nothing has to be known of Services for that. From a build with other
// structs, the programs of both run one behind the other until every flow of the old one is caught up with.
import type { Attachments } from "../datapath/attach.ts";
import type { Loaded } from "../datapath/load.ts";
import type { Reconciler } from "./reconciler.ts";

export function takeOver(
  loaded: Pick<Loaded, "replacesLayout" | "catchUp" | "stopOpening" | "removeOldLayouts">,
  attachments: Pick<Attachments, "beginHandover" | "finishHandover">,
  reconciler: Pick<Reconciler, "setHandover" | "turn" | "works">,
): void {
  reconciler.setHandover(loaded.replacesLayout);
  const stopOpening = (): void => {
    // A device or socket that goes on with a program of the old build alone needs it whole.
    if (isReplaced(reconciler)) loaded.stopOpening();
  };
  if (loaded.replacesLayout) attachments.beginHandover({ catchUp: loaded.catchUp, stopOpening });
  loaded.catchUp();
  reconciler.turn();
  loaded.catchUp();
  attachments.finishHandover();
  reconciler.setHandover(false);
  reconciler.turn();
  leaveOldLayouts(loaded, reconciler);
}

/** Programs that could not be replaced keep their maps: a later start takes those away. */
export function leaveOldLayouts(loaded: Pick<Loaded, "removeOldLayouts">, reconciler: Pick<Reconciler, "works">): void {
  if (isReplaced(reconciler)) loaded.removeOldLayouts();
}

const isReplaced = (reconciler: Pick<Reconciler, "works">): boolean =>
  reconciler.works("devices") && reconciler.works("sockets");
