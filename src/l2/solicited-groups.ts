// The solicited-node groups (RFC 4291 section 2.7.1) that devices must listen to for requests about announced IPv6 addresses
// to arrive. The kernel holds them, so they outlive the agent. One batch of changes at a time: joining and leaving never race.
import type { Address } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { solicitedNodeGroup } from "./frames.ts";

export interface GroupChange {
  readonly verb: "join" | "leave";
  readonly group: Address;
  readonly ifindex: number;
}

export interface SolicitedGroups {
  /** The addresses to listen for from now on. `left`: others, whose groups may have been joined; `doubted`: perhaps not any more. */
  set(wanted: readonly Member[], left: readonly Member[], doubted: readonly Member[]): void;
  stop(): void;
}

interface Member {
  readonly address: Address;
  readonly ifindex: number;
}

const RETRY_MS = 5_000;

/** `change` makes some changes in their order and says for each "" or why it was refused; it must come back. */
export function createSolicitedGroups(
  change: (changes: readonly GroupChange[]) => Promise<readonly string[]>,
  log: Log,
): SolicitedGroups {
  type Group = Omit<GroupChange, "verb">;
  const joined = new Map<string, Group>();
  /** Joined by somebody, perhaps. */
  const suspected = new Map<string, Group>();
  let wanted = new Map<string, Group>();
  /** Refusals that were logged. */
  const said = new Map<string, string>();
  let running = false;
  let timer: NodeJS.Timeout | undefined;

  // Addresses share a group when their last 24 bits are equal.
  const groupsOf = (members: readonly Member[]): Map<string, Group> =>
    new Map(
      members
        .filter(({ address }) => address.includes(":"))
        .map(({ address, ifindex }) => ({ group: solicitedNodeGroup(address), ifindex }))
        .map((group) => [`${group.group}%${group.ifindex}`, group]),
    );

  async function work(): Promise<void> {
    if (running) return;
    clearTimeout(timer);
    running = true;
    let refused = 0;
    for (;;) {
      const leave = [...suspected, ...joined].filter(([text]) => !wanted.has(text));
      const join = [...wanted].filter(([text]) => !joined.has(text));
      const changes = [
        ...[...new Map(leave).values()].map((group): GroupChange => ({ verb: "leave", ...group })),
        ...join.map(([, group]): GroupChange => ({ verb: "join", ...group })),
      ];
      if (changes.length === 0 || refused > 0) break;
      const answers = await change(changes).catch((error: unknown) => changes.map(() => String(error)));
      for (const [i, one] of changes.entries()) {
        const text = `${one.group}%${one.ifindex}`;
        const { verb, ...group } = one;
        const reason = answers[i] ?? "";
        if (reason === "") said.delete(text);
        else if (said.get(text) !== reason)
          log.warn({ group: one.group, ifindex: one.ifindex, reason }, `could not ${verb} a solicited-node group`);
        if (reason !== "") {
          said.set(text, reason);
          refused++;
        } else if (verb === "join") joined.set(text, group);
        else {
          joined.delete(text);
          suspected.delete(text);
        }
      }
    }
    running = false;
    if (refused > 0) timer = setTimeout(() => void work(), RETRY_MS).unref();
  }

  return {
    set(next, left, doubted) {
      for (const text of groupsOf(doubted).keys()) joined.delete(text);
      wanted = groupsOf(next);
      for (const [text, group] of groupsOf(left)) suspected.set(text, group);
      void work();
    },
    stop() {
      clearTimeout(timer);
    },
  };
}
