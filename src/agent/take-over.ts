// The programs of this build over the rows that are there: nothing has to be known of Services for that. From a build with other
// structs, the programs of both run one behind the other until every flow of the old one is caught up with.
import type { Attachments } from "../datapath/attach.ts";
import type { Loaded } from "../datapath/load.ts";
import type { NodeNetwork } from "./node-network.ts";
import type { Reconciler } from "./reconciler.ts";

/** Returns whether the maps of other layouts are gone: else leaveOldLayouts() is to be asked again, and flows to be caught up with. */
export function takeOver(
  loaded: Pick<Loaded, "replacesLayout" | "catchUp" | "stopOpening" | "removeOldLayouts">,
  attachments: Pick<Attachments, "beginHandover" | "finishHandover">,
  reconciler: Pick<Reconciler, "setHandover" | "turn" | "works">,
  network: Pick<NodeNetwork, "isWhole">,
): boolean {
  reconciler.setHandover(loaded.replacesLayout);
  const stopOpening = (): void => {
    // A device or socket that goes on with a program of the old build alone needs it whole.
    if (isSwitched(reconciler, network)) loaded.stopOpening();
  };
  if (loaded.replacesLayout) attachments.beginHandover({ catchUp: loaded.catchUp, stopOpening });
  loaded.catchUp();
  reconciler.turn();
  loaded.catchUp();
  attachments.finishHandover();
  reconciler.setHandover(false);
  reconciler.turn();
  return leaveOldLayouts(loaded, reconciler, network);
}

/**
 * Takes the maps of other layouts away when no link runs programs over them any more; to be asked again until then. Programs that
 * could not be replaced, be it on one device, keep their maps: they go on with them, and what they open is caught up with.
 */
export function leaveOldLayouts(
  loaded: Pick<Loaded, "removeOldLayouts">,
  reconciler: Pick<Reconciler, "works">,
  network: Pick<NodeNetwork, "isWhole">,
): boolean {
  const all = isSwitched(reconciler, network);
  if (all) loaded.removeOldLayouts();
  return all;
}

const isSwitched = (reconciler: Pick<Reconciler, "works">, network: Pick<NodeNetwork, "isWhole">): boolean =>
  reconciler.works("devices") && reconciler.works("sockets") && network.isWhole();
