// Every flow case, for all executors.
import { BALANCING_CASES } from "./balancing-cases.ts";
import { AFFINITY_CASES, SOURCE_RANGE_CASES } from "./client-cases.ts";
import { CLUSTER_ADDRESS_CASES } from "./cluster-address-cases.ts";
import { EXTERNAL_IP_CASES } from "./external-ip-cases.ts";
import type { FlowCase } from "./flow-case.ts";
import { HAIRPIN_CASES } from "./hairpin-cases.ts";
import { LOAD_BALANCER_CASES } from "./load-balancer-cases.ts";
import { HOST_PORT_CASES, NODE_PORT_ADDRESS_CASES, NODE_PORT_CASES } from "./node-port-cases.ts";
import { NODE_TRAFFIC_CASES } from "./node-traffic-cases.ts";
import { ENDPOINT_CASES, UNDEFINED_CASES } from "./nothing-served-cases.ts";
import { SCTP_CASES } from "./sctp-cases.ts";
import { SERVICE_FIELD_CASES } from "./service-field-cases.ts";
import { TOPOLOGY_CASES } from "./topology-cases.ts";
import { UNANSWERED_CASES } from "./unanswered-cases.ts";
import { variantsOf } from "./variants.ts";

export const FLOW_CASES: readonly FlowCase[] = [
  ...CLUSTER_ADDRESS_CASES,
  ...NODE_PORT_CASES,
  ...NODE_PORT_ADDRESS_CASES,
  ...HOST_PORT_CASES,
  ...LOAD_BALANCER_CASES,
  ...EXTERNAL_IP_CASES,
  ...HAIRPIN_CASES,
  ...SERVICE_FIELD_CASES,
  ...TOPOLOGY_CASES,
  ...ENDPOINT_CASES,
  ...UNDEFINED_CASES,
  ...NODE_TRAFFIC_CASES,
  ...BALANCING_CASES,
  ...UNANSWERED_CASES,
  ...AFFINITY_CASES,
  ...SOURCE_RANGE_CASES,
  ...SCTP_CASES,
];

/** The same over the other protocols and in the other family. */
export const FLOW_VARIANTS: readonly FlowCase[] = FLOW_CASES.flatMap(variantsOf);
