// Random histories of a cluster with two controllers: stopped, killed, cut off and started again, with answers that are late, lost or
// refusals, while Services and pools come, change and go. Whatever happens, an address is given to nobody beside who has it, and
// nobody whom nothing was changed about loses one. In every other history pools stay as they are. MILLRACE_SEED repeats a run.
import { expect, test } from "vitest";
import { createRandom, type Random, seedOfRun } from "../model/random.ts";
import type { Stored } from "./fake-cluster.ts";
import { addressesOf, advertisement, type Harness, harness, node, pool, type Running, service } from "./objects.ts";
import { pausable } from "./pausable.ts";

const RANGES = ["192.0.2.0/29", "192.0.2.8-192.0.2.12", "198.51.100.0/30", "2001:db8::/126", "192.0.2.4/30"];
const NAMES = Array.from({ length: 14 }, (_, i) => `s${i}`);
const SHARED = "metallb.io/allow-shared-ip";

/** Longer than any watch is late here. */
const LATE_MS = 40_000;

const key = ({ metadata: { namespace, name } }: Stored): string => `${namespace}/${name}`;
const isBalanced = (one: Stored): boolean => one["spec"].type === "LoadBalancer";

/** MetalLB's rule, said another way than in the source. */
function mayShare(a: Stored, b: Stored): boolean {
  const of = (one: Stored): string => one.metadata.annotations?.[SHARED] ?? "";
  const ports = (one: Stored): string[] => one["spec"].ports.map((port: { port: number }) => String(port.port));
  const policy = (one: Stored): string => one["spec"].externalTrafficPolicy;
  if (of(a) === "" || of(a) !== of(b) || policy(a) !== policy(b)) return false;
  const pods = (one: Stored): string => JSON.stringify(one["spec"].selector);
  if (policy(a) === "Local" && pods(a) !== pods(b)) return false;
  return ports(a).every((port) => !ports(b).includes(port));
}

/** What of a Service its owner says. */
const said = ({ metadata, spec }: Stored): string => {
  const { "metallb.io/ip-allocated-from-pool": _, ...own } = metadata.annotations ?? {};
  return JSON.stringify([own, spec]);
};

/** Watches every change of the cluster; what is wrong goes into the list that it returns. */
function watchRules({ cluster, clock }: Harness): string[] {
  const wrong: string[] = [];
  /** When a Service got what it has: its own words, and the number of the configuration. */
  const given = new Map<string, { said: string; configured: number }>();
  /** A watch may be late: what was decided by an older configuration is taken back when the newer is seen. */
  const configuredAt: number[] = [0];
  const settledBefore = (): number => configuredAt.findLastIndex((at) => at <= clock.now() - LATE_MS);
  /** A write that was decided before its neighbour was edited may come after. */
  const edits = new Map<string, { readonly at: number; readonly before: Stored }>();
  const couldShare = (one: Stored, other: Stored): boolean => {
    const edit = edits.get(key(other));
    return edit !== undefined && clock.now() - edit.at < 6_000 && mayShare(one, edit.before);
  };
  cluster.onChange = (plural, object, before) => {
    if (plural === "ipaddresspools") {
      const spec = (one: Stored | undefined): string => JSON.stringify(one?.["spec"]);
      if (spec(object) !== spec(before)) configuredAt.push(clock.now());
    }
    if (plural !== "services") return;
    if (object === undefined) {
      given.delete(key(before!));
      return;
    }
    if (before !== undefined && said(before) !== said(object)) edits.set(key(object), { at: clock.now(), before });
    const had = addressesOf(before);
    const has = addressesOf(object);
    const fresh = has.filter((one) => !had.includes(one));
    for (const address of fresh) {
      for (const other of cluster.list("services")) {
        if (key(other) === key(object) || !addressesOf(other).includes(address) || mayShare(object, other)) continue;
        if (couldShare(object, other)) continue;
        wrong.push(`${clock.now()}: ${key(object)} was given ${address}, which ${key(other)} has`);
      }
    }
    const lost = had.filter((one) => !has.includes(one));
    const since = given.get(key(object));
    if (lost.length > 0 && since?.said === said(object) && since.configured === configuredAt.length) {
      wrong.push(`${clock.now()}: ${key(object)}, about which nothing was changed, lost ${lost.join()}`);
    }
    if (fresh.length > 0 || lost.length > 0)
      given.set(key(object), { said: said(object), configured: settledBefore() + 1 });
  };
  return wrong;
}

function anyService(random: Random, name: string): Stored {
  const dual = random.chance(0.3);
  const annotations: Record<string, string> = {};
  if (random.chance(0.4)) annotations[SHARED] = random.pick(["k", "l"]);
  if (random.chance(0.15)) annotations["metallb.io/address-pool"] = random.pick(["p0", "p1", "absent"]);
  if (random.chance(0.1))
    annotations["metallb.io/loadBalancerIPs"] = random.pick(["192.0.2.1", "192.0.2.9", "nonsense"]);
  return service(
    name,
    {
      type: random.chance(0.1) ? "ClusterIP" : "LoadBalancer",
      ports: [{ port: 80 + random.below(3), protocol: "TCP" }],
      selector: { app: random.pick(["x", "y"]) },
      externalTrafficPolicy: random.chance(0.2) ? "Local" : "Cluster",
      ...(dual
        ? { ipFamilies: ["IPv4", "IPv6"], ipFamilyPolicy: random.pick(["PreferDualStack", "RequireDualStack"]) }
        : {}),
    },
    { annotations },
  );
}

interface Contender extends Running {
  readonly gate: ReturnType<typeof pausable>;
}

function start(world: Harness): Contender {
  const gate = pausable(world.clock);
  const running = world.start({}, (client) => gate.wrap(client), gate.clock);
  return { ...running, gate };
}

function step(random: Random, world: Harness, contenders: Contender[], poolsChange: boolean): void {
  const { cluster } = world;
  const which = random.below(contenders.length);
  const one = contenders[which]!;
  const name = random.pick(NAMES);
  const found = cluster.get("services", `default/${name}`);
  switch (random.below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: {
      const made = anyService(random, name);
      if (found === undefined) cluster.put("services", made);
      else {
        const kept = found.metadata.annotations?.["metallb.io/ip-allocated-from-pool"];
        const annotations = {
          ...made.metadata.annotations,
          ...(kept ? { "metallb.io/ip-allocated-from-pool": kept } : {}),
        };
        const spec = { ...made["spec"], clusterIPs: found["spec"].clusterIPs };
        // As the API server does with a Service that is no LoadBalancer any more.
        const status = isBalanced(made) ? found["status"] : { loadBalancer: {} };
        cluster.put("services", { ...found, metadata: { ...found.metadata, annotations }, spec, status });
      }
      return;
    }
    case 5:
      cluster.remove("services", `default/${name}`);
      return;
    case 6:
      if (!poolsChange) return;
      cluster.put(
        "ipaddresspools",
        pool(`p${random.below(3)}`, [random.pick(RANGES), ...(random.chance(0.3) ? [random.pick(RANGES)] : [])]),
      );
      return;
    case 7:
      if (poolsChange && random.chance(0.3)) cluster.remove("ipaddresspools", `metallb-system/p${random.below(3)}`);
      return;
    case 8: {
      const slow = random.chance(0.5);
      one.client.fault = () => ({
        beforeMs: random.below(slow ? 3_900 : 200),
        afterMs: random.below(300),
        isLost: random.chance(0.2),
        ...(random.chance(0.2) ? { status: random.pick([500, 503, 429, 403]) } : {}),
      });
      return;
    }
    case 9:
      one.client.fault = () => ({});
      one.client.lagMs = () => 0;
      one.client.readStatus = undefined;
      return;
    case 10:
      one.client.cut();
      if (random.chance(0.3)) one.client.readStatus = random.pick([500, 403]);
      one.client.lagMs = () => random.below(400);
      return;
    case 11:
      one.gate.pause();
      world.clock.after(500 + random.below(25_000), () => one.gate.resume());
      return;
    case 12:
      one.stop();
      contenders[which] = start(world);
      return;
    case 13:
    case 14:
      if (found === undefined) return;
      // Touched, and nothing that counts is another.
      cluster.put("services", {
        ...found,
        metadata: { ...found.metadata, labels: { touched: String(world.clock.now()) } },
      });
      return;
    default:
      // Killed: nothing of it happens any more but what was on its way.
      one.gate.kill();
      contenders[which] = start(world);
  }
}

async function history(seed: number): Promise<void> {
  const random = createRandom(seed);
  const world = harness(() => random.below(1_000) / 1_000);
  const { clock, cluster } = world;
  const wrong = watchRules(world);
  cluster.put("nodes", node("n1", "192.0.2.2"));
  cluster.put("l2advertisements", advertisement("l2"));
  cluster.put("ipaddresspools", pool("p0", ["192.0.2.4/30", "2001:db8::/126"]));
  for (const name of NAMES.slice(0, 8)) cluster.put("services", anyService(random, name));
  const contenders = [start(world), start(world)];
  for (let i = 0; i < 60; i++) {
    step(random, world, contenders, seed % 2 === 0);
    await clock.advance(random.below(random.chance(0.2) ? 9_000 : 900));
    expect(wrong, `seed ${seed}, step ${i}`).toEqual([]);
  }
  // All is well again: everybody has what there is.
  for (const { client, gate } of contenders) {
    client.fault = () => ({});
    client.lagMs = () => 0;
    client.readStatus = undefined;
    gate.resume();
  }
  for (const name of ["p1", "p2"]) cluster.remove("ipaddresspools", `metallb-system/${name}`);
  cluster.put("ipaddresspools", pool("p0", ["192.0.2.4/30", "2001:db8::/126"]));
  await clock.advance(150_000);
  expect(wrong, `seed ${seed}, at the end`).toEqual([]);
  const services = cluster.list("services").filter(isBalanced);
  const used = new Set(services.flatMap(addressesOf));
  const leaders = contenders.filter(({ controller }) => controller.view().leads);
  expect(leaders.length, `seed ${seed}: leaders`).toBe(1);
  const pending = services.filter((one) => addressesOf(one).length === 0);
  const taken = pending.filter(
    (one) => !/absent|nonsense|p1|192\.0\.2|RequireDual/.test(JSON.stringify([one.metadata.annotations, one["spec"]])),
  );
  const free = ["192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"].filter((one) => !used.has(one));
  if (taken.length > 0) expect(free, `seed ${seed}: ${taken.map(key).join()} wait`).toEqual([]);
  for (const one of contenders) one.stop();
  await clock.advance(20_000);
}

const first = seedOfRun();
const runs = Number(process.env["MILLRACE_HISTORIES"] ?? 12);

test.each(Array.from({ length: runs }, (_, i) => (first + i) >>> 0))("history of seed %i", history, 60_000);
