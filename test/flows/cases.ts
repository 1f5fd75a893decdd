// Every flow case, for all executors.
import { CLUSTER_ADDRESS_CASES } from "./cluster-address-cases.ts";
import type { FlowCase } from "./flow-case.ts";
import { LOAD_BALANCER_CASES } from "./load-balancer-cases.ts";
import { HOST_PORT_CASES, NODE_PORT_CASES } from "./node-port-cases.ts";
import { NODE_TRAFFIC_CASES } from "./node-traffic-cases.ts";
import { ENDPOINT_CASES, UNDEFINED_CASES } from "./nothing-served-cases.ts";
import { SCTP_CASES } from "./sctp-cases.ts";
import { variantsOf } from "./variants.ts";

export const FLOW_CASES: readonly FlowCase[] = [
  ...CLUSTER_ADDRESS_CASES,
  ...NODE_PORT_CASES,
  ...HOST_PORT_CASES,
  ...LOAD_BALANCER_CASES,
  ...ENDPOINT_CASES,
  ...UNDEFINED_CASES,
  ...NODE_TRAFFIC_CASES,
  ...SCTP_CASES,
];

/** The same over the other protocols and in the other family. */
export const FLOW_VARIANTS: readonly FlowCase[] = FLOW_CASES.flatMap(variantsOf);
