// Who serves Services on one node, as tests drive it: a program that the test started, or a pod of the DaemonSet.
import type { Component } from "./component.ts";

export type NodeProxy = Pick<
  Component,
  "name" | "pid" | "log" | "lastWords" | "start" | "stop" | "kill" | "restart" | "signal"
>;

/** How Millrace's agents come to run: each as a program beside the kubelet, or as the pods of deploy/millrace.yaml. */
export const WAYS = ["process", "daemonset"] as const;
export type Through = (typeof WAYS)[number];

/** What the environment variable THROUGH says; "process" without it. @throws when it is none of them */
export function throughOfEnvironment(): Through {
  const text = process.env["THROUGH"] || "process";
  const found = WAYS.find((way) => way === text);
  if (found === undefined) throw new Error(`THROUGH is '${text}': it must be one of ${WAYS.join(", ")}`);
  return found;
}
