// The fallback for kernels without tcx: programs as direct-action filters under a device's clsact qdisc. Devices are those
// of the calling thread's network namespace. Never removes a qdisc by itself.
import { Failure } from "../lib/errors.ts";
import { EEXIST, EINVAL, ENOENT, kernelError } from "./errno.ts";
import type { Direction } from "./link.ts";
import { native, withMessages } from "./native.ts";
import { askNetlink, findAttribute, NETLINK_ROUTE, NLM_F_DUMP, NLM_F_ECHO, textOf } from "./netlink.ts";
import type { BpfProgram } from "./program.ts";

/** A filter's place; both numbers at least 1. Lower priorities run first. */
export interface FilterPlace {
  readonly handle: number;
  readonly priority: number;
}

const POINT = { ingress: 1, egress: 2 } as const;
const REPLACE = 1;

/** An `ingress` qdisc (bandwidth plugin of a CNI, policers) holds the place that clsact needs, and it is not ours to replace. */
export class IngressQdiscError extends Failure {
  override readonly name: string = "IngressQdiscError";
  readonly ifindex: number;
  readonly qdisc: string;

  constructor(ifindex: number, qdisc: string) {
    super(
      "conflict",
      `device ${ifindex}`,
      `could not add a clsact qdisc to device ${ifindex}: an '${qdisc}' qdisc is in the way; remove it, or use Linux 6.6 or later, which needs none`,
    );
    this.ifindex = ifindex;
    this.qdisc = qdisc;
  }
}

function hookOf(ifindex: number, point: number): Uint8Array {
  if (!Number.isInteger(ifindex) || ifindex < 1 || ifindex > 0x7fffffff) {
    throw new RangeError(`Cannot use clsact as 'ifindex' must be a device's index: it is ${ifindex}`);
  }
  const hook = new Uint8Array(24);
  const view = new DataView(hook.buffer);
  view.setBigUint64(0, 24n, true);
  view.setInt32(8, ifindex, true);
  view.setUint32(12, point, true);
  return hook;
}

function optionsOf(place: FilterPlace, programFd: number, flags: number): Uint8Array {
  for (const field of ["handle", "priority"] as const) {
    const value = place[field];
    if (!Number.isInteger(value) || value < 1 || value > (field === "priority" ? 0xffff : 0xffffffff)) {
      throw new RangeError(`Cannot use clsact as '${field}' must be a positive whole number: it is ${value}`);
    }
  }
  const options = new Uint8Array(32);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, 32n, true);
  view.setInt32(8, programFd, true);
  view.setUint32(12, flags, true);
  view.setUint32(20, place.handle, true);
  view.setUint32(24, place.priority, true);
  return options;
}

/** Runs a libbpf call and throws what the kernel said. Returns the result; those in `expected` are no failure. */
function run(operation: string, subject: string, call: () => number, expected: readonly number[] = []): number {
  return withMessages((messages) => {
    const result = call();
    if (result < 0 && !expected.includes(-result)) throw kernelError(operation, subject, -result, messages.join("; "));
    return result;
  });
}

/**
 * Makes sure that the device has a clsact qdisc. `created` tells whether this call made it: whoever gets true may
 * removeClsact later. Throws IngressQdiscError when another qdisc holds the place.
 */
export function ensureClsact(ifindex: number): { readonly created: boolean } {
  const subject = `the clsact qdisc of device ${ifindex}`;
  const hook = hookOf(ifindex, POINT.ingress | POINT.egress);
  if (run("create", subject, () => native().tcHookCreate(hook), [EEXIST]) === 0) return { created: true };
  // Both clsact and ingress answer EEXIST, and a filter for egress under an ingress qdisc would silently run at ingress.
  const kind = ingressQdisc(ifindex);
  if (kind !== "clsact") throw new IngressQdiscError(ifindex, kind ?? "unknown");
  return { created: false };
}

/** Removes the clsact qdisc with every filter on it, others' too. False when there was none. */
export function removeClsact(ifindex: number): boolean {
  const hook = hookOf(ifindex, POINT.ingress | POINT.egress);
  if (ingressQdisc(ifindex) !== "clsact") return false;
  run("remove", `the clsact qdisc of device ${ifindex}`, () => native().tcHookDestroy(hook));
  return true;
}

/** Puts the program at a place; what is there with the same handle and priority is replaced without a gap. The qdisc must exist. */
export function attachClsact(program: BpfProgram, ifindex: number, direction: Direction, place: FilterPlace): void {
  const hook = hookOf(ifindex, POINT[direction]);
  const options = optionsOf(place, program.fd, REPLACE);
  const subject = `${program.name} at ${direction} (clsact) of device ${ifindex}`;
  run("attach", subject, () => native().tcAttach(hook, options));
}

/** Takes the program at a place off. False when there was none. */
export function detachClsact(ifindex: number, direction: Direction, place: FilterPlace): boolean {
  const hook = hookOf(ifindex, POINT[direction]);
  const options = optionsOf(place, 0, 0);
  const subject = `the filter at ${direction} (clsact) of device ${ifindex}`;
  return run("detach", subject, () => native().tcDetach(hook, options), [ENOENT, EINVAL]) === 0;
}

/** Id of the program at a place, undefined when there is none. */
export function queryClsact(ifindex: number, direction: Direction, place: FilterPlace): number | undefined {
  const hook = hookOf(ifindex, POINT[direction]);
  const options = optionsOf(place, 0, 0);
  const subject = `the filter at ${direction} (clsact) of device ${ifindex}`;
  if (run("query", subject, () => native().tcQuery(hook, options), [ENOENT, EINVAL]) !== 0) return undefined;
  return new DataView(options.buffer).getUint32(16, true);
}

const RTM_GETQDISC = 38;
const RTM_NEWQDISC = 36;
const TCMSG = 20;
const RTM_GETTFILTER = 46;
const TC_H_INGRESS = 0xfffffff1;
/** Under a clsact qdisc. */
const PARENT = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const;
const TCA_KIND = 1;

/** Kind of the qdisc at a device's ingress place ("clsact", "ingress"), undefined when there is none. */
export function ingressQdisc(ifindex: number): string | undefined {
  const subject = `the ingress qdisc of device ${ifindex}`;
  const question = new Uint8Array(TCMSG);
  const view = new DataView(question.buffer);
  view.setInt32(4, ifindex, true);
  view.setUint32(12, TC_H_INGRESS, true);
  // ECHO, because the answer goes only to the multicast group otherwise.
  const { errno, messages } = askNetlink(NETLINK_ROUTE, RTM_GETQDISC, question, subject, NLM_F_ECHO);
  if (errno !== 0 && errno !== ENOENT) throw kernelError("ask for", subject, errno);
  const found = messages.findLast(({ type }) => type === RTM_NEWQDISC);
  const kind = found && findAttribute(found.payload, TCMSG, TCA_KIND);
  return kind && textOf(kind);
}

/** Whether anybody has a filter there, under a clsact qdisc. */
export function hasFilters(ifindex: number, direction: Direction): boolean {
  const subject = `filters at ${direction} (clsact) of device ${ifindex}`;
  const question = new Uint8Array(TCMSG);
  const view = new DataView(question.buffer);
  view.setInt32(4, ifindex, true);
  view.setUint32(12, PARENT[direction], true);
  const { errno, messages } = askNetlink(NETLINK_ROUTE, RTM_GETTFILTER, question, subject, NLM_F_DUMP);
  if (errno !== 0) throw kernelError("ask for", subject, errno);
  return messages.length > 0;
}
