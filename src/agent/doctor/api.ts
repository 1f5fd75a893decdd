// What is said of the way to the Kubernetes API, of rights there, and of this Node's object. Pure.
import type { ApiExamination, AskedRight } from "../../kube/api-examination.ts";
import { age } from "../../lib/text.ts";
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface ApiFacts extends Omit<ApiExamination, "objects"> {
  readonly nodeName: string;
  readonly namespace: string;
  /** Of `--nodeport-addresses` and routes: the node's devices have these addresses. */
  readonly deviceAddresses: readonly string[];
  readonly nowMs: number;
}

/** Minor versions of Kubernetes 1 that are tested. */
const TESTED = { first: 34, last: 37 } as const;
/** A Lease of the controller, and certificates, are told by clocks. */
const CLOCK_MS = 5_000;
const SLOW_MS = 500;
const SOON_MS = 7 * 24 * 3_600_000;

export function judgeApi(facts: ApiFacts): Finding[] {
  if (facts.noWay !== "") {
    return [error("api.way", facts.noWay, "give --apiserver or --kubeconfig; without Kubernetes give --manifests")];
  }
  const answered = facts.ways.find(({ problem }) => problem === "");
  return [
    ...facts.ways.map((way) => wayFinding(way, answered !== undefined)),
    ...(answered === undefined
      ? []
      : [version(facts), latency(facts), clock(facts), ...certificate(facts), ...rights(facts), node(facts)]),
  ];
}

function wayFinding(way: ApiFacts["ways"][number], other: boolean): Finding {
  const from =
    way.origin.startsWith("-") || way.origin === "kubeconfig"
      ? `by ${way.origin}`
      : `by ${way.origin}, if nobody else answers`;
  if (way.problem === "") return ok("api.way", `${way.server} (${from}) answers, in ${Math.round(way.ms)} ms`);
  const [says = "", todo = ""] = splitOnce(way.problem);
  const text = `${way.server} (${from}): ${says}`;
  return other
    ? warning("api.way", text, todo)
    : error("api.way", text, todo || "give another server with --apiserver");
}

function splitOnce(text: string): readonly [string, string] {
  const at = text.lastIndexOf("; ");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 2)];
}

function version({ version: text }: ApiFacts): Finding {
  const match = /^v?(\d+)\.(\d+)/.exec(text);
  const [major, minor] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null)
    return warning(
      "api.version",
      "the server does not tell its version",
      "check that it is a Kubernetes API server, and that /version may be read",
    );
  if (major === 1 && minor >= TESTED.first && minor <= TESTED.last) return ok("api.version", `Kubernetes ${text}`);
  const older = major < 1 || (major === 1 && minor < TESTED.first);
  return warning(
    "api.version",
    `Kubernetes ${text} is ${older ? "older" : "newer"} than what is tested (1.${TESTED.first} to 1.${TESTED.last})`,
    older ? "test it before you rely on it, or update the cluster" : "look for a newer Millrace",
  );
}

function latency({ latencyMs }: ApiFacts): Finding {
  const says = `an answer takes ${latencyMs < 10 ? latencyMs.toFixed(1) : Math.round(latencyMs)} ms`;
  return latencyMs < SLOW_MS
    ? ok("api.latency", says)
    : warning("api.latency", says, "look at the network to the server, and at its load");
}

function clock({ clockAheadMs }: ApiFacts): Finding {
  const check = "api.clock";
  if (clockAheadMs === undefined) return ok(check, "the server does not tell the time");
  const off = age(Math.abs(clockAheadMs));
  if (Math.abs(clockAheadMs) < CLOCK_MS) return ok(check, "this machine's clock agrees with the server's");
  return warning(
    check,
    `the server's clock is ${off} ${clockAheadMs > 0 ? "ahead of" : "behind"} this machine's`,
    "set both by NTP",
  );
}

function certificate({ certificateExpiresAtMs: at, nowMs }: ApiFacts): Finding[] {
  if (at === undefined) return [];
  if (at <= nowMs) return [error("api.certificate", `the client certificate ended ${age(nowMs - at)} ago`, "renew it")];
  const says = `the client certificate ends in ${age(at - nowMs)}`;
  return [at - nowMs > SOON_MS ? ok("api.certificate", says) : warning("api.certificate", says, "renew it")];
}

function rightName({ right: { group, resource }, verb }: AskedRight): string {
  return `${verb} ${resource}${group === "" ? "" : `.${group}`}`;
}

function rights({ rights: asked, namespace }: ApiFacts): Finding[] {
  const check = "api.rights";
  const denied = asked.filter(({ allowed }) => allowed === false);
  const unsaid = asked.filter(({ allowed }) => allowed === undefined);
  const findings = [...Map.groupBy(denied, ({ right }) => right)].map(([right, list]) => {
    const what = someOf(list.map(rightName), 9);
    const text = `this account may not ${what}${right.inNamespace ? ` in namespace ${namespace}` : ""}: ${right.lost}`;
    const todo = "apply deploy/rbac.yaml, and use its account";
    return right.needed ? error(check, text, todo) : warning(check, text, todo);
  });
  if (unsaid.length > 0) {
    findings.push(
      warning(
        check,
        `the server does not say whether this account may ${someOf(unsaid.map(rightName))}`,
        "see what an agent says when it runs",
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(check, `this account has all ${asked.length} rights of an agent`)];
}

interface NodeStatus {
  readonly addresses?: readonly { readonly type?: string; readonly address?: string }[];
}

function node({ node: found, nodeName, deviceAddresses, rights: asked }: ApiFacts): Finding {
  const check = "api.node";
  if (found === undefined) {
    const mayRead = !asked.some(
      ({ right, verb, allowed }) => right.resource === "nodes" && verb === "list" && allowed === false,
    );
    return mayRead
      ? error(check, `there is no Node called ${nodeName}`, "name it with --node-name, as `kubectl get nodes` shows it")
      : warning(check, "Nodes cannot be read", "see api.rights");
  }
  const { addresses = [] } = (found["status"] ?? {}) as NodeStatus;
  const internal = addresses.flatMap(({ type, address }) =>
    type === "InternalIP" && address !== undefined ? address : [],
  );
  if (internal.length === 0)
    return error(check, `the Node ${nodeName} has no InternalIP`, "have the kubelet or the cloud's controller set one");
  const strange = internal.filter((address) => !deviceAddresses.includes(address));
  if (strange.length === internal.length) {
    return error(
      check,
      `no device here has an address of the Node ${nodeName} (${someOf(internal)})`,
      "run it in the node's network namespace (hostNetwork), or correct --node-name",
    );
  }
  return strange.length === 0
    ? ok(check, `the Node ${nodeName} has ${someOf(internal)}`)
    : warning(
        check,
        `no device here has ${someOf(strange)} of the Node ${nodeName}`,
        "correct the Node's addresses (kubelet --node-ip)",
      );
}
