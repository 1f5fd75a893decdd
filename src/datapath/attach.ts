// Puts programs on devices and on the cgroup, as pinned links that outlive the agent. A link that is there already gets this
// build's program in place, so that no packet passes without one. Below Linux 6.6 tc programs are filters of a clsact qdisc,
// which live as long as the device.
import { existsSync, mkdirSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { KernelError } from "../lib/errors.ts";
import { recall, remember } from "../lib/state-store.ts";
import {
  attachCgroup,
  attachClsact,
  attachTcx,
  attachXdp,
  type BpfLink,
  type BpfProgram,
  type Direction,
  detachClsact,
  ensureClsact,
  errnoName,
  hasFeature,
  hasFilters,
  ingressQdisc,
  openPinnedLink,
  queryClsact,
  queryTcx,
  removeClsact,
  unpin,
} from "../libbpf/mod.ts";

/** Our filters' place under clsact: fixed, so that a replacement is atomic, with a handle ("Mi") that nobody else gives. */
const PLACE = { handle: 0x4d69, priority: 1 } as const;
/** Where a program runs behind the one that it is to replace. */
const PLACE_BEHIND = { handle: 0x4d69, priority: 2 } as const;
const PLACES = [PLACE, PLACE_BEHIND] as const;
const DIRECTIONS = ["ingress", "egress"] as const;
/** What ingress opens finds its way back. */
const ANSWERS_FIRST = ["egress", "ingress"] as const;

export interface TcPrograms {
  readonly ingress: BpfProgram;
  readonly egress: BpfProgram;
}

export interface AttachedDevice {
  readonly name: string;
  readonly ifindex: number;
  readonly programs: readonly string[];
}

/** What somebody had taken off a device, or off the cgroup. */
export interface Reassertion {
  /** "" for the programs of sockets. */
  readonly device: string;
  /** What is back: "ingress", "egress", names of programs of sockets. */
  readonly restored: readonly string[];
  /** Why something did not come back; undefined when all did. */
  readonly error: unknown;
}

/** The build whose programs are replaced. */
export interface BuildBefore {
  /** Its programs open no flow any more. */
  stopOpening(): void;
  /** What it opened until now is known to this build. */
  catchUp(): void;
}

export interface Attachments {
  readonly mode: "tcx" | "clsact";
  /** Attaches or replaces. Throws KernelError or IngressQdiscError; what was attached before stays. */
  attachDevice(name: string, ifindex: number, programs: TcPrograms): void;
  attachXdp(name: string, ifindex: number, program: BpfProgram): void;
  detachXdp(name: string, ifindex: number): void;
  /** Whether XDP of this agent, or of one before, is on the device. */
  hasXdp(name: string, ifindex: number): boolean;
  /** Takes our programs off a device that is neither uplink nor pod device any more. */
  detachDevice(name: string, ifindex: number): void;
  /** Programs that run when answers come (recvmsg, getpeername) belong before those that send. */
  attachSockets(cgroup: string, programs: readonly BpfProgram[]): void;
  /**
   * From now until `finishHandover` programs of uplinks, and those that translate answers, do not replace the ones of the
   * build before but run behind them, so that answers of flows in either build's maps are translated wherever they come.
   * Without a call to finish, of the programs behind those stay that translate answers, until a later process finishes.
   */
  beginHandover(before: BuildBefore): void;
  /** Takes the programs of the build before off: at ingress of all uplinks at once, then the rest. To be called without a handover too. */
  finishHandover(): void;
  /**
   * Brings back what somebody took off, and puts ours back to the head of ingress and the tail of egress when another program
   * came before or behind. Never throws: what fails at one device is told, and the others are served.
   */
  reassert(): readonly Reassertion[];
  /** Drops pins whose device or cgroup is gone, and devices not in `ifindexes`. */
  sweep(ifindexes: ReadonlySet<number>): void;
  devices(): readonly AttachedDevice[];
  close(): void;
}

interface DeviceRecord {
  readonly name: string;
  readonly ifindex: number;
  programs: TcPrograms;
  xdp: BpfProgram | undefined;
}

export interface AttachOptions {
  readonly pinDir: string;
  /** Remembers which clsact qdiscs are ours. */
  readonly stateDir: string;
}

const QDISCS = "clsact-qdiscs.json";
const NEXT_PREFIX = "next-";

/** ifindexes of the devices whose clsact qdisc we made, by name. */
export function readOwnQdiscs(stateDir: string): Record<string, number> {
  const found = recall(join(stateDir, QDISCS)) ?? {};
  return Object.fromEntries(Object.entries(found).filter(([, ifindex]) => Number.isInteger(ifindex)));
}

function writeOwnQdiscs(stateDir: string, qdiscs: Record<string, number>): void {
  remember(join(stateDir, QDISCS), qdiscs);
}

export function createAttachments({ pinDir, stateDir }: AttachOptions): Attachments {
  const mode = hasFeature("tcx") ? "tcx" : "clsact";
  const linksDirectory = join(pinDir, "links");
  mkdirSync(linksDirectory, { recursive: true, mode: 0o700 });
  const links = new Map<string, BpfLink>();
  const records = new Map<number, DeviceRecord>();
  let sockets: { readonly cgroup: string; readonly programs: readonly BpfProgram[] } = { cgroup: "", programs: [] };
  const ownQdiscs = readOwnQdiscs(stateDir);

  const pathOf = (pin: string): string => join(linksDirectory, pin);
  // A bpffs takes no dots in names, and VLAN devices have them.
  const pinName = (name: string): string => name.replaceAll(".", "+");
  const tcPin = (name: string, ifindex: number, direction: Direction): string =>
    `tcx-${pinName(name)}-${ifindex}-${direction}`;
  const xdpPin = (name: string, ifindex: number): string => `xdp-${pinName(name)}-${ifindex}`;

  function drop(pin: string): void {
    // A link that is only unpinned and closed goes later, by a work queue, and its program cannot be attached again until then.
    links.get(pin)?.detach();
    links.get(pin)?.close();
    links.delete(pin);
    if (existsSync(pathOf(pin))) unpin(pathOf(pin));
  }

  /** The pinned link with `program` in it, or a new one made by `attach`. */
  function link(pin: string, program: BpfProgram, attach: () => BpfLink): void {
    let found = links.get(pin);
    if (found === undefined && existsSync(pathOf(pin))) {
      found = openPinnedLink(pathOf(pin));
      links.set(pin, found);
    }
    if (found !== undefined && !found.isSevered()) {
      if (found.info().programId !== program.id) found.update(program);
      return;
    }
    drop(pin);
    const made = attach();
    links.set(pin, made);
    made.pin(pathOf(pin));
  }

  const position = (direction: Direction): { readonly position: "head" | "tail" } => ({
    position: direction === "ingress" ? "head" : "tail",
  });

  interface Successor {
    /** Whatever takes time. */
    prepare(): void;
    /** The program of the build before is gone. */
    takeOver(): void;
  }
  /** `opening`: at ingress of uplinks, where flows are opened that may be answered at any of them. */
  let handover:
    | {
        readonly before: BuildBefore;
        readonly opening: Map<string, Successor>;
        readonly answers: Map<string, Successor>;
      }
    | undefined;

  /** In a handover: `program` behind the one whose link is pinned. False when there is none to wait for. */
  function linkBehind(pin: string, program: BpfProgram, isOpening: boolean, attach: () => BpfLink): boolean {
    if (handover === undefined || links.has(pin) || !existsSync(pathOf(pin))) return false;
    const before = openPinnedLink(pathOf(pin));
    if (before.isSevered() || before.info().programId === program.id) {
      before.close();
      return false;
    }
    const next = attach();
    links.set(pin, next);
    const nextPin = freeNextPin(pin);
    // Whenever this process dies, both programs go on to translate answers: flows may have been opened in either's maps.
    if (!isOpening) next.pin(nextPin);
    (isOpening ? handover.opening : handover.answers).set(pin, {
      prepare() {
        // By rename: whenever this process dies, a link is pinned there.
        if (isOpening) next.pin(nextPin);
        renameSync(nextPin, pathOf(pin));
      },
      takeOver: () => before.close(),
    });
    return true;
  }

  /** Path of a pin beside `pin`: one that a handover cut short has left stays until this one ends. */
  function freeNextPin(pin: string): string {
    for (let i = 0; ; i++) {
      const path = pathOf(`${NEXT_PREFIX}${i}-${pin}`);
      if (!existsSync(path)) return path;
    }
  }

  function removeNextPins(): void {
    for (const pin of readdirSync(linksDirectory)) if (pin.startsWith(NEXT_PREFIX)) unpin(join(linksDirectory, pin));
  }

  function filterBehind(ifindex: number, direction: Direction, program: BpfProgram): boolean {
    if (handover === undefined || queryClsact(ifindex, direction, PLACE) === undefined) return false;
    attachClsact(program, ifindex, direction, PLACE_BEHIND);
    const list = direction === "ingress" ? handover.opening : handover.answers;
    list.set(`${ifindex} ${direction}`, {
      prepare: () => undefined,
      takeOver() {
        attachClsact(program, ifindex, direction, PLACE);
        detachClsact(ifindex, direction, PLACE_BEHIND);
      },
    });
    return true;
  }

  function attachDirection(name: string, ifindex: number, direction: Direction, program: BpfProgram): void {
    const isOpening = direction === "ingress";
    const runsBehind = !isOpening || program.name.startsWith("tc_uplink");
    if (mode === "tcx") {
      const pin = tcPin(name, ifindex, direction);
      // Among programs of others there is no place behind ours but before theirs.
      const isAlone = !isOpening || handover === undefined || queryTcx(ifindex, direction).length <= 1;
      const behind = (): BpfLink => attachTcx(program, ifindex, direction, { position: "tail" });
      if (runsBehind && isAlone && linkBehind(pin, program, isOpening, behind)) return;
      link(pin, program, () => attachTcx(program, ifindex, direction, position(direction)));
      return;
    }
    if (ensureClsact(ifindex).created) {
      ownQdiscs[name] = ifindex;
      writeOwnQdiscs(stateDir, ownQdiscs);
    }
    if (runsBehind && filterBehind(ifindex, direction, program)) return;
    attachClsact(program, ifindex, direction, PLACE);
    // Left by a handover that was cut short.
    if (handover === undefined) detachClsact(ifindex, direction, PLACE_BEHIND);
  }

  /** Whether the program was gone and is back. */
  function reassertDirection({ name, ifindex, programs }: DeviceRecord, direction: Direction): boolean {
    const program = programs[direction];
    if (mode === "clsact") {
      if (queryClsact(ifindex, direction, PLACE) === program.id) return false;
      attachDirection(name, ifindex, direction, program);
      return true;
    }
    const order = queryTcx(ifindex, direction);
    const wanted = direction === "ingress" ? order[0] : order.at(-1);
    if (wanted === program.id) return false;
    // The kernel takes a program once at a hook and cannot move it: for some microseconds there is none.
    const pin = tcPin(name, ifindex, direction);
    drop(pin);
    const made = attachTcx(program, ifindex, direction, position(direction));
    links.set(pin, made);
    made.pin(pathOf(pin));
    return !order.includes(program.id);
  }

  /** Whether XDP was gone and is back. */
  function reassertXdp({ name, ifindex, xdp }: DeviceRecord): boolean {
    const pin = xdpPin(name, ifindex);
    if (xdp === undefined || links.get(pin)?.isSevered() !== true) return false;
    drop(pin);
    link(pin, xdp, () => attachXdp(xdp, ifindex, "driver"));
    return true;
  }

  /** Whether the program was gone and is back. */
  function reassertSocket(program: BpfProgram, cgroup: string): boolean {
    if (links.get(program.name)?.isSevered() === false) return false;
    link(program.name, program, () => attachCgroup(program, cgroup));
    return true;
  }

  /** Each of `programs` by what it is told as, and whether it was gone and is back. Undefined when none was gone. */
  function reassertAll(
    device: string,
    programs: readonly (readonly [name: string, reassert: () => boolean])[],
  ): Reassertion | undefined {
    const restored: string[] = [];
    try {
      for (const [name, reassert] of programs) if (reassert()) restored.push(name);
    } catch (error) {
      // The device went since the list of devices was read: the next list says so.
      if (!(error instanceof KernelError) || errnoName(error.errno) !== "ENODEV") return { device, restored, error };
    }
    return restored.length === 0 ? undefined : { device, restored, error: undefined };
  }

  const detachXdp = (name: string, ifindex: number): void => {
    drop(xdpPin(name, ifindex));
    const record = records.get(ifindex);
    if (record !== undefined) record.xdp = undefined;
  };

  return {
    mode,
    attachDevice(name, ifindex, programs) {
      // Answers first: what ingress opens from now on finds its way back.
      attachDirection(name, ifindex, "egress", programs.egress);
      attachDirection(name, ifindex, "ingress", programs.ingress);
      records.set(ifindex, { name, ifindex, programs, xdp: records.get(ifindex)?.xdp });
    },
    attachXdp(name, ifindex, program) {
      link(xdpPin(name, ifindex), program, () => attachXdp(program, ifindex, "driver"));
      const record = records.get(ifindex);
      if (record !== undefined) record.xdp = program;
    },
    detachXdp,
    hasXdp: (name, ifindex) => existsSync(pathOf(xdpPin(name, ifindex))),
    detachDevice(name, ifindex) {
      for (const direction of ["ingress", "egress"] as const) {
        if (mode === "tcx") drop(tcPin(name, ifindex, direction));
        else detachFilters(ifindex, direction);
      }
      if (ownQdiscs[name] === ifindex) {
        removeUnusedClsact(ifindex);
        delete ownQdiscs[name];
        writeOwnQdiscs(stateDir, ownQdiscs);
      }
      detachXdp(name, ifindex);
      records.delete(ifindex);
    },
    attachSockets(cgroup, programs) {
      for (const program of programs) {
        const attach = (): BpfLink => attachCgroup(program, cgroup);
        const isAnswers = /recvmsg|peername/.test(program.name);
        if (!isAnswers || !linkBehind(program.name, program, false, attach)) link(program.name, program, attach);
      }
      sockets = { cgroup, programs };
    },
    beginHandover(before) {
      handover = { before, opening: new Map(), answers: new Map() };
    },
    finishHandover() {
      if (handover !== undefined) {
        const { before, opening, answers } = handover;
        handover = undefined;
        for (const successor of opening.values()) successor.prepare();
        // An answer may come whenever it likes: no flow may be in the old maps alone when their program goes.
        before.stopOpening();
        before.catchUp();
        for (const successor of opening.values()) successor.takeOver();
        for (const successor of answers.values()) successor.prepare();
        before.catchUp();
        for (const successor of answers.values()) successor.takeOver();
      }
      // Of handovers that were cut short.
      removeNextPins();
    },
    reassert() {
      if (handover !== undefined) return [];
      const { cgroup, programs } = sockets;
      const found = [...records.values()].map((record) =>
        reassertAll(record.name, [
          ...ANSWERS_FIRST.map((direction) => [direction, () => reassertDirection(record, direction)] as const),
          ["xdp", () => reassertXdp(record)],
        ]),
      );
      found.push(
        reassertAll(
          "",
          programs.map((program) => [program.name, () => reassertSocket(program, cgroup)] as const),
        ),
      );
      return found.filter((one) => one !== undefined);
    },
    sweep(ifindexes) {
      for (const pin of readdirSync(linksDirectory)) {
        const match = /^(?:tcx|xdp)-(.+)-(\d+)(?:-(?:in|e)gress)?$/.exec(pin);
        if (match === null || ifindexes.has(Number(match[2]))) continue;
        drop(pin);
      }
      for (const ifindex of records.keys()) if (!ifindexes.has(ifindex)) records.delete(ifindex);
    },
    devices: () =>
      [...records.values()].map(({ name, ifindex, programs, xdp }) => ({
        name,
        ifindex,
        programs: [programs.ingress.name, programs.egress.name, ...(xdp === undefined ? [] : [xdp.name])],
      })),
    close() {
      for (const found of links.values()) found.close();
      links.clear();
    },
  };
}

function detachFilters(ifindex: number, direction: Direction): boolean {
  return PLACES.map((place) => detachClsact(ifindex, direction, place)).includes(true);
}

/** Others may have put filters under the qdisc that we made: then it is theirs from now on. */
function removeUnusedClsact(ifindex: number): boolean {
  return !DIRECTIONS.some((direction) => hasFilters(ifindex, direction)) && removeClsact(ifindex);
}

/** Takes off clsact filters and qdiscs that are ours. Returns what was removed. `ifindexes` are the devices there are. */
export function removeClsactAttachments(stateDir: string, ifindexes: ReadonlyMap<string, number>): string[] {
  const removed: string[] = [];
  const own = readOwnQdiscs(stateDir);
  for (const [name, ifindex] of ifindexes) {
    if (ingressQdisc(ifindex) !== "clsact") continue;
    for (const direction of DIRECTIONS) {
      if (detachFilters(ifindex, direction)) removed.push(`${direction} filter of ${name}`);
    }
    if (own[name] === ifindex && removeUnusedClsact(ifindex)) removed.push(`clsact qdisc of ${name}`);
  }
  return removed;
}
