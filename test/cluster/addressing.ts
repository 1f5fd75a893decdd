// Which address belongs to what in a cluster: nodes, pods, clients and the LAN as in a lab, both families, IPv4 first.

import { LAN_PREFIX, LAN_PREFIX6 } from "../../src/lab/addressing.ts";
import type { Address } from "../../src/lib/address.ts";

export const SERVICE_RANGES = ["10.96.0.0/12", "fd00:10:96::/112"] as const;
export const CLUSTER_DOMAIN = "cluster.local";

/** The Service kubernetes. */
export const KUBERNETES_ADDRESS = "10.96.0.1";

/** The Service kube-dns: the tenth address of each range. */
export const DNS_ADDRESSES = ["10.96.0.10", "fd00:10:96::a"] as const;

/** The control plane's on the LAN: the API server answers there without any Service. */
export const CONTROL_ADDRESSES: readonly Address[] = [`${LAN_PREFIX}.2`, `${LAN_PREFIX6}:2`];

export const API_PORT = 6443;
export const API_URL = `https://${CONTROL_ADDRESSES[0]}:${API_PORT}`;
