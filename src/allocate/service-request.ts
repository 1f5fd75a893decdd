// What a Service says, as far as an allocator reads it. Objects of any typed client fit. Types, and one question.
import type { Family } from "../lib/address.ts";
import type { Protocol } from "../model/objects.ts";

export interface RequestedPort {
  readonly port: number;
  readonly protocol?: Protocol;
  readonly nodePort?: number;
}

export interface ServiceRequest {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly type?: string;
    readonly selector?: Readonly<Record<string, string>>;
    readonly ports?: readonly RequestedPort[];
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly ipFamilies?: readonly Family[];
    readonly ipFamilyPolicy?: string;
    readonly externalTrafficPolicy?: string;
    readonly healthCheckNodePort?: number;
    readonly loadBalancerIP?: string;
    readonly loadBalancerClass?: string;
    readonly allocateLoadBalancerNodePorts?: boolean;
  };
}

/** What is wrong with a request, in the API server's words. */
export interface RefusedField {
  /** Such as "spec.ports[0].nodePort". */
  readonly field: string;
  readonly reason: string;
  readonly message: string;
}

export function protocolOf(port: RequestedPort): Protocol {
  return port.protocol || "TCP";
}
