// Scenarios that need a network namespace of their own: run as `node scenarios.ts NAME ARGUMENTS`, answers JSON on standard
// output. Each ends with as many descriptors as it began with, or fails.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import {
  attachCgroup,
  attachClsact,
  attachTcx,
  attachXdp,
  type BpfLink,
  type BpfObject,
  detachClsact,
  ensureClsact,
  errnoName,
  errnoOf,
  hasFilters,
  isSeveredError,
  netnsCookie,
  netnsId,
  openObject,
  openPinnedLink,
  openPinnedProgram,
  queryCgroup,
  queryClsact,
  queryTcx,
  removeClsact,
  unpin,
  xdpFeatures,
} from "../../../src/libbpf/mod.ts";
import { allDescriptors } from "./fixture.ts";

interface Place {
  readonly object: string;
  readonly bpffs: string;
  readonly cgroup: string;
}

function ifindex(device: string): number {
  const links = JSON.parse(execFileSync("ip", ["-j", "link", "show"], { encoding: "utf8" })) as {
    ifname: string;
    ifindex: number;
  }[];
  const found = links.find((link) => link.ifname === device);
  if (found === undefined) throw new Error(`no device ${device}`);
  return found.ifindex;
}

/** What a failing call throws: its class and errno. */
function refusal(call: () => unknown): string {
  try {
    call();
    return "nothing";
  } catch (error) {
    const errno = errnoOf(error);
    return errno === undefined ? (error as Error).name : errnoName(errno);
  }
}

interface LinkKind {
  readonly programs: readonly [old: string, replacement: string];
  attach(object: BpfObject, program: string, place: Place): BpfLink;
  /** Ids of attached programs as the hook itself tells them. */
  attached(place: Place): number[];
  /** Takes device or cgroup away under the link. */
  sever(place: Place): void;
}

function xdpProgram(device: string): number[] {
  const [link] = JSON.parse(execFileSync("ip", ["-j", "link", "show", "dev", device], { encoding: "utf8" })) as {
    xdp?: { prog: { id: number } };
  }[];
  return link?.xdp === undefined ? [] : [link.xdp.prog.id];
}

const deleteDevice = (): void => void execFileSync("ip", ["link", "del", "v0"]);

const LINKS: Record<string, LinkKind> = {
  "tcx ingress": {
    programs: ["first", "second"],
    attach: (object, program) => attachTcx(object.program(program), ifindex("v0"), "ingress", { position: "head" }),
    attached: () => queryTcx(ifindex("v0"), "ingress"),
    sever: deleteDevice,
  },
  "tcx egress": {
    programs: ["first", "second"],
    attach: (object, program) => attachTcx(object.program(program), ifindex("v0"), "egress", { position: "tail" }),
    attached: () => queryTcx(ifindex("v0"), "egress"),
    sever: deleteDevice,
  },
  "xdp driver": {
    programs: ["pass", "pass_too"],
    attach: (object, program) => attachXdp(object.program(program), ifindex("v0"), "driver"),
    attached: () => xdpProgram("v0"),
    sever: deleteDevice,
  },
  "xdp generic": {
    programs: ["pass", "pass_too"],
    attach: (object, program) => attachXdp(object.program(program), ifindex("v0"), "generic"),
    attached: () => xdpProgram("v0"),
    sever: deleteDevice,
  },
  cgroup: {
    programs: ["allow", "refuse_port_1"],
    attach: (object, program, place) => attachCgroup(object.program(program), place.cgroup),
    attached: (place) => queryCgroup(place.cgroup, "cgroup_inet4_connect"),
    sever: (place) => fs.rmdirSync(place.cgroup),
  },
};

/** The whole life of one link; answers a line per step. */
function linkLife(place: Place & { readonly kind: string }): Record<string, unknown> {
  const kind = LINKS[place.kind];
  if (kind === undefined) throw new Error(`no link kind ${place.kind}`);
  using object = openObject(place.object);
  object.load();
  const [old, replacement] = kind.programs;
  const pin = `${place.bpffs}/link`;
  const ids = { old: object.program(old).id, replacement: object.program(replacement).id };
  const nameOf = (id: number): string => (id === ids.old ? "old" : id === ids.replacement ? "replacement" : "other");
  const steps: Record<string, unknown> = {};
  const hook = (): string[] => kind.attached(place).map(nameOf);

  steps["before"] = hook();
  using link = kind.attach(object, old, place);
  steps["attached"] = hook();
  const info = link.info();
  steps["info"] = {
    type: info.type,
    program: nameOf(info.programId),
    attachType: info.attachType,
    onDevice: info.ifindex === 0 ? false : info.ifindex === ifindex("v0"),
    onCgroup: info.cgroupId !== 0n && info.cgroupId === BigInt(fs.statSync(place.cgroup, { bigint: true }).ino),
  };
  link.update(object.program(replacement));
  steps["replaced"] = hook();
  link.pin(pin);
  steps["pinned twice"] = refusal(() => link.pin(pin));
  link.close();
  steps["closed but pinned"] = hook();
  using reopened = openPinnedLink(pin);
  steps["same link"] = reopened.id === info.id;
  reopened.update(object.program(old));
  steps["replaced over the pin"] = hook();
  steps["severed before"] = reopened.isSevered();
  reopened.detach();
  steps["detached"] = hook();
  steps["severed after detach"] = reopened.isSevered();
  steps["unpin"] = [unpin(pin), unpin(pin)];
  reopened.close();

  // Again, and this time what it is attached to goes away.
  using lost = kind.attach(object, old, place);
  lost.pin(pin);
  kind.sever(place);
  // A cgroup lets go of its links some time after it is gone.
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (const end = Date.now() + 10_000; !lost.isSevered() && Date.now() < end; ) Atomics.wait(clock, 0, 0, 5);
  steps["severed"] = lost.isSevered();
  try {
    lost.update(object.program(replacement));
    steps["update of severed"] = "nothing";
  } catch (error) {
    steps["update of severed"] = isSeveredError(error) ? errnoName(errnoOf(error) ?? 0) : String(error);
  }
  using found = openPinnedLink(pin);
  steps["pin of severed"] = found.isSevered();
  unpin(pin);
  return steps;
}

/** Order of three programs at one tcx hook. */
function tcxOrder(place: Place): Record<string, unknown> {
  using object = openObject(place.object);
  object.load();
  const names = ["first", "second", "emit"] as const;
  const nameOf = (id: number): string => names.find((name) => object.program(name).id === id) ?? "other";
  const device = ifindex("v0");
  using tail = attachTcx(object.program("first"), device, "ingress", { position: "tail" });
  using head = attachTcx(object.program("second"), device, "ingress", { position: "head" });
  using last = attachTcx(object.program("emit"), device, "ingress", { position: "tail" });
  return {
    order: queryTcx(device, "ingress").map(nameOf),
    other: queryTcx(device, "egress").map(nameOf),
    types: [tail, head, last].map((link) => link.type),
    "no such device": refusal(() => attachTcx(object.program("first"), 999_999, "ingress")),
    "not a classifier": refusal(() => attachTcx(object.program("pass"), device, "ingress")),
    "no device": refusal(() => attachTcx(object.program("first"), 0, "ingress")),
  };
}

function withoutTcx(place: Place): Record<string, unknown> {
  using object = openObject(place.object);
  object.load();
  const device = ifindex("v0");
  return {
    attach: refusal(() => attachTcx(object.program("first"), device, "ingress")),
    query: refusal(() => queryTcx(device, "ingress")),
  };
}

/** clsact from nothing to nothing. */
function clsact(place: Place): Record<string, unknown> {
  using object = openObject(place.object);
  object.load();
  const device = ifindex("v0");
  const at = { handle: 1, priority: 7 };
  const names = ["first", "second"] as const;
  const running = (direction: "ingress" | "egress"): string | undefined => {
    const id = queryClsact(device, direction, at);
    return id === undefined ? undefined : (names.find((name) => object.program(name).id === id) ?? "other");
  };
  const filters = (direction: string): number =>
    execFileSync("tc", ["filter", "show", "dev", "v0", direction], { encoding: "utf8" }).match(/direct-action/g)
      ?.length ?? 0;
  const found = (): boolean[] => [hasFilters(device, "ingress"), hasFilters(device, "egress")];
  const steps: Record<string, unknown> = {};
  steps["attach without qdisc"] = refusal(() => attachClsact(object.program("first"), device, "ingress", at));
  steps["query without qdisc"] = running("ingress") ?? "nothing";
  steps["detach without qdisc"] = detachClsact(device, "ingress", at);
  steps["remove without qdisc"] = removeClsact(device);
  steps["ensure"] = [ensureClsact(device), ensureClsact(device)];
  steps["detach nothing"] = detachClsact(device, "ingress", at);
  steps["filters found"] = [found()];
  attachClsact(object.program("first"), device, "ingress", at);
  attachClsact(object.program("second"), device, "egress", at);
  steps["attached"] = [running("ingress"), running("egress")];
  attachClsact(object.program("second"), device, "ingress", at);
  steps["replaced"] = running("ingress");
  steps["filters"] = [filters("ingress"), filters("egress")];
  (steps["filters found"] as unknown[]).push(found());
  steps["detach"] = detachClsact(device, "ingress", at);
  (steps["filters found"] as unknown[]).push(found());
  steps["after detach"] = [running("ingress") ?? "nothing", running("egress")];
  steps["remove"] = [removeClsact(device), removeClsact(device)];
  steps["no such device"] = refusal(() => ensureClsact(999_999));
  return steps;
}

/** Another party's ingress qdisc holds the place. */
function clsactBehindIngress(): Record<string, unknown> {
  const device = ifindex("v0");
  execFileSync("tc", ["qdisc", "add", "dev", "v0", "ingress"]);
  const steps: Record<string, unknown> = {};
  try {
    ensureClsact(device);
  } catch (error) {
    steps["ensure"] = { name: (error as Error).name, message: (error as Error).message.replace(/\d+/g, "N") };
  }
  steps["remove"] = removeClsact(device);
  steps["left alone"] = execFileSync("tc", ["qdisc", "show", "dev", "v0"], { encoding: "utf8" }).includes(
    "qdisc ingress",
  );
  return steps;
}

/** The kernel tells no attach type of a program from a pin. */
function pinnedProgramToCgroup(place: Place): Record<string, unknown> {
  using object = openObject(place.object);
  object.load();
  const pin = `${place.bpffs}/program`;
  object.program("allow").pin(pin);
  using program = openPinnedProgram(pin);
  const unnamed = refusal(() => attachCgroup(program, place.cgroup));
  const directory = fs.openSync(place.cgroup, "r");
  try {
    using link = attachCgroup(program, directory, "cgroup_inet4_connect");
    return {
      unnamed,
      named: link.info().programId === program.id,
      "no cgroup": refusal(() => attachCgroup(program, `${place.cgroup}/none`, "cgroup_inet4_connect")),
      "not a cgroup": refusal(() => attachCgroup(program, "/tmp", "cgroup_inet4_connect")),
      "another hook": refusal(() => attachCgroup(program, place.cgroup, "cgroup_inet6_connect")),
    };
  } finally {
    fs.closeSync(directory);
    unpin(pin);
  }
}

const SCENARIOS: Record<string, (args: never) => unknown> = {
  linkLife,
  tcxOrder,
  withoutTcx,
  clsact,
  clsactBehindIngress,
  pinnedProgramToCgroup,
  netnsCookie: () => String(netnsCookie()),
  xdpFeatures: ({ device }: { device: string }) => xdpFeatures(ifindex(device)) ?? null,
  netnsId: ({ path }: { path: string }) => netnsId(path) ?? null,
};

const [name = "", args = "{}"] = process.argv.slice(2);
const scenario = SCENARIOS[name];
if (scenario === undefined) throw new Error(`no scenario ${name}`);
// Opened once and kept for the process: standard streams, and what koffi and the loader hold.
refusal(() => openObject("/nonexistent"));
const before = allDescriptors();
const answer = scenario(JSON.parse(args) as never);
const leaked = allDescriptors().filter((line) => !before.includes(line));
if (leaked.length > 0) throw new Error(`leaked descriptors: ${leaked.join(", ")}`);
process.stdout.write(JSON.stringify(answer));
