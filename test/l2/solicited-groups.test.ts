// Joining and leaving solicited-node groups: one batch at a time, each group once, tried again when it is refused.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createSolicitedGroups, type GroupChange } from "../../src/l2/solicited-groups.ts";
import type { Log } from "../../src/lib/log.ts";

const at = (address: string, ifindex = 2) => ({ address, ifindex });
const A = "fd00::aa:1";
const A_TOO = "fd01::aa:1";
const B = "fd00::bb:2";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A kernel's memberships. It refuses to be asked twice at once, to join what is joined and to leave what is not. */
function bench() {
  const members = new Set<string>();
  const batches: string[][] = [];
  const logged: string[] = [];
  const world = { refuse: (_: GroupChange) => "" };
  let busy = false;
  const change = async (changes: readonly GroupChange[]): Promise<string[]> => {
    if (busy) throw new Error("two batches at once");
    busy = true;
    await new Promise((resolve) => setTimeout(resolve, 50));
    busy = false;
    batches.push(changes.map(({ verb, group, ifindex }) => `${verb} ${group}%${ifindex}`));
    return changes.map((one) => {
      const text = `${one.group}%${one.ifindex}`;
      const refusal = world.refuse(one);
      if (refusal !== "") return refusal;
      if (one.verb === "join" ? members.has(text) : !members.has(text)) return "nothing to do";
      if (one.verb === "join") members.add(text);
      else members.delete(text);
      return "";
    });
  };
  const groups = createSolicitedGroups(change, {
    warn: (_: unknown, text: string) => logged.push(text),
  } as unknown as Log);
  return { groups, members, batches, logged, world, rest: () => vi.advanceTimersByTimeAsync(1_000) };
}

test("addresses that share a group join it once, and it is left with the last of them", async () => {
  const { groups, batches, rest } = bench();
  groups.set([at(A), at(A_TOO), at(B), at("192.168.122.101")], [], []);
  await rest();
  groups.set([at(A_TOO)], [at(A), at(B)], []);
  await rest();
  groups.set([], [at(A_TOO)], []);
  await rest();
  expect(batches).toEqual([
    ["join ff02::1:ffaa:1%2", "join ff02::1:ffbb:2%2"],
    ["leave ff02::1:ffbb:2%2"],
    ["leave ff02::1:ffaa:1%2"],
  ]);
});

test("what is asked while a batch runs waits for its end, and only the last of it counts", async () => {
  const { groups, batches, members, rest } = bench();
  groups.set([at(A)], [], []);
  groups.set([], [at(A)], []);
  groups.set([at(A), at(B)], [], []);
  groups.set([at(B)], [at(A)], []);
  await rest();
  expect([...members]).toEqual(["ff02::1:ffbb:2%2"]);
  expect(batches).toEqual([["join ff02::1:ffaa:1%2"], ["leave ff02::1:ffaa:1%2", "join ff02::1:ffbb:2%2"]]);
});

test("groups that an agent before joined are left, and those that a device may have forgotten are joined again", async () => {
  const { groups, members, batches, rest } = bench();
  members.add("ff02::1:ffaa:1%7");
  groups.set([at(B)], [at(A, 7)], []);
  await rest();
  expect([...members]).toEqual(["ff02::1:ffbb:2%2"]);
  members.clear();
  groups.set([at(B)], [], [at(B)]);
  await rest();
  expect([...members]).toEqual(["ff02::1:ffbb:2%2"]);
  expect(batches).toEqual([["leave ff02::1:ffaa:1%7", "join ff02::1:ffbb:2%2"], ["join ff02::1:ffbb:2%2"]]);
});

test("what is refused is tried again after a while, and only that", async () => {
  const { groups, members, batches, world, rest } = bench();
  world.refuse = ({ group }) => (group === "ff02::1:ffaa:1" ? "no" : "");
  groups.set([at(A), at(B)], [], []);
  await rest();
  expect(batches).toHaveLength(1);
  world.refuse = () => "";
  await vi.advanceTimersByTimeAsync(6_000);
  expect(batches[1]).toEqual(["join ff02::1:ffaa:1%2"]);
  expect(members.size).toBe(2);
  groups.stop();
});

test("a change that fails as a whole is tried again, and nothing is thrown", async () => {
  const { groups, members, logged, world } = bench();
  world.refuse = () => {
    throw new Error("no ip(8)");
  };
  groups.set([at(A)], [], []);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(logged).toEqual(["could not join a solicited-node group"]);
  world.refuse = () => "";
  await vi.advanceTimersByTimeAsync(6_000);
  expect(members.size).toBe(1);
});
