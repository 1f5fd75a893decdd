// What single fields of Services, EndpointSlices and Pods mean to each client: one line for each field and client.
import type { Endpoint } from "../../src/model/objects.ts";
import { ending, endpoint, hostPort, notReady, type ServiceFields, service, slice } from "./builders.ts";
import {
  ENDPOINTS,
  ENDPOINTS_6,
  type FlowCase,
  HERE,
  HERE_6,
  HERE_TOO,
  NODE1,
  OUTSIDE,
  POD,
  THERE,
  tcp,
  udp,
} from "./flow-case.ts";
import { fromEverywhere, type Line, split, split6, whole, whole6 } from "./from-everywhere.ts";

const VIP = "10.96.0.10";
const VIP_6 = "fd00:10:96::a";
const FIRST = "203.0.113.9";
const SECOND = "203.0.113.10";
const FIRST_6 = "2001:db8:113::9";
const PORT = 30080;
const slices = [slice({ endpoints: ENDPOINTS })];

const balanced = (given: ServiceFields = {}, addresses: readonly string[] = [FIRST, SECOND]): ServiceFields => ({
  type: "LoadBalancer",
  ports: [{ nodePort: PORT }],
  loadBalancerAddresses: addresses.map((address) => ({ address, ipMode: "VIP", fromPool: false })),
  ...given,
});

const onNodePort = { services: [service({ type: "NodePort", ports: [{ nodePort: PORT }] })], slices };

/** TCP and UDP of one number at an address, behind it other ports. */
const bothProtocols = (clusterIP: string, address: string, endpoints: readonly Endpoint[]): FlowCase["given"] => ({
  services: [
    service(
      balanced({
        clusterIPs: [clusterIP],
        loadBalancerAddresses: [{ address, ipMode: "VIP", fromPool: false }],
        ports: [
          { name: "t", port: 443, nodePort: PORT },
          { name: "u", port: 443, protocol: "UDP", nodePort: PORT },
        ],
      }),
    ),
  ],
  slices: [
    slice({
      ports: [
        { name: "t", port: 8443 },
        { name: "u", protocol: "UDP", port: 9443 },
      ],
      endpoints,
    }),
  ],
});
const bothOverIPv4 = bothProtocols(VIP, FIRST, ENDPOINTS);
const bothOverIPv6 = bothProtocols(VIP_6, FIRST_6, ENDPOINTS_6);

const LINES: readonly Line[] = [
  {
    field: "status.loadBalancer",
    finds: "the second of several LoadBalancer addresses",
    given: { services: [service(balanced())], slices },
    to: tcp(SECOND, 80),
    outside: split(8080),
    inside: whole(8080),
  },
  {
    field: "status.loadBalancer, protocol",
    finds: "TCP at a LoadBalancer address of both protocols",
    given: bothOverIPv4,
    to: tcp(FIRST, 443),
    outside: split(8443),
    inside: whole(8443),
  },
  {
    field: "status.loadBalancer, protocol",
    finds: "UDP at a LoadBalancer address of both protocols",
    given: bothOverIPv4,
    to: udp(FIRST, 443),
    outside: split(9443),
    inside: whole(9443),
  },
  {
    field: "nodePort, protocol",
    finds: "UDP at a node port of both protocols",
    given: bothOverIPv4,
    to: udp(NODE1, PORT),
    outside: split(9443),
    inside: whole(9443),
  },
  {
    field: "status.loadBalancer, protocol",
    finds: "TCP at an IPv6 LoadBalancer address of both protocols",
    given: bothOverIPv6,
    to: tcp(FIRST_6, 443),
    outside: split6(8443),
    inside: whole6(8443),
  },
  {
    field: "status.loadBalancer, protocol",
    finds: "UDP at an IPv6 LoadBalancer address of both protocols",
    given: bothOverIPv6,
    to: udp(FIRST_6, 443),
    outside: split6(9443),
    inside: whole6(9443),
  },
  {
    field: "allocateLoadBalancerNodePorts",
    finds: "a LoadBalancer address without node ports",
    given: { services: [service(balanced({ ports: [{}] }))], slices },
    to: tcp(FIRST, 80),
    outside: split(8080),
    inside: whole(8080),
  },
  {
    field: "allocateLoadBalancerNodePorts",
    finds: "no node port where none was allocated",
    given: { services: [service(balanced({ ports: [{}] }))], slices },
    to: tcp(NODE1, PORT),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "loadBalancerClass",
    finds: "another class's status address on the node port's backends",
    given: { services: [service(balanced({ loadBalancerClass: "example.org/lb" }))], slices },
    to: tcp(FIRST, 80),
    outside: split(8080),
    inside: whole(8080),
  },
  {
    field: "ipMode",
    finds: "nobody at an address of mode Proxy beside one of mode VIP",
    given: {
      services: [
        service(
          balanced({
            loadBalancerAddresses: [
              { address: FIRST, ipMode: "Proxy", fromPool: false },
              { address: SECOND, ipMode: "VIP", fromPool: false },
            ],
          }),
        ),
      ],
      slices,
    },
    to: tcp(FIRST, 80),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "publishNotReadyAddresses",
    finds: "endpoints that are published as ready though they do not serve",
    given: {
      services: [service()],
      slices: [
        slice({
          endpoints: [
            endpoint(HERE, "node1", { serving: false }),
            endpoint(THERE, "node2", { serving: false, terminating: true }),
          ],
        }),
      ],
    },
    to: tcp(VIP, 80),
    outside: split(8080),
    inside: whole(8080),
  },
  {
    field: "targetPort",
    finds: "a named target port that each pod has another number for",
    given: {
      services: [service({ ports: [{ name: "web", targetPort: "http" }] })],
      slices: [
        slice({ ports: [{ name: "web", port: 8080 }], endpoints: [endpoint(HERE)] }),
        slice({ name: "b", ports: [{ name: "web", port: 9090 }], endpoints: [endpoint(THERE, "node2")] }),
      ],
    },
    to: tcp(VIP, 80),
    outside: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:9090"] },
    inside: { kept: ["10.244.1.2:8080", "10.244.2.2:9090"] },
  },
  {
    field: "ports",
    finds: "the second of several ports, over UDP",
    given: {
      services: [service({ ports: [{ name: "a" }, { name: "b", port: 53, protocol: "UDP" }] })],
      slices: [slice({ ports: [{ name: "a" }, { name: "b", protocol: "UDP", port: 5353 }], endpoints: ENDPOINTS })],
    },
    to: udp(VIP, 53),
    outside: split(5353),
    inside: whole(5353),
  },
  {
    field: "ports",
    finds: "the second of several ports",
    given: {
      services: [service({ ports: [{ name: "a" }, { name: "b", port: 81 }] })],
      slices: [slice({ ports: [{ name: "a" }, { name: "b", port: 8081 }], endpoints: ENDPOINTS })],
    },
    to: tcp(VIP, 81),
    outside: split(8081),
    inside: whole(8081),
  },
  {
    field: "selector",
    finds: "an endpoint outside the cluster behind a Service without selector",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint("203.0.113.50", "")] })] },
    to: tcp(VIP, 80),
    outside: { translated: ["203.0.113.50:8080"] },
    inside: { kept: ["203.0.113.50:8080"] },
  },
  {
    field: "headless",
    finds: "no node port of a headless Service",
    given: {
      services: [service({ type: "NodePort", ports: [{ nodePort: PORT }], clusterIPs: [], headless: true })],
      slices,
    },
    to: tcp(NODE1, PORT),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "externalName",
    finds: "no node port of an ExternalName Service",
    given: {
      services: [service({ type: "ExternalName", externalName: "example.org", ports: [{ nodePort: PORT }] })],
      slices,
    },
    to: tcp(NODE1, PORT),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "ipFamilies",
    finds: "the backends of IPv6, which comes first of both families",
    given: {
      services: [service({ clusterIPs: [VIP_6, VIP] })],
      slices: [...slices, slice({ name: "web-6", endpoints: ENDPOINTS_6 })],
    },
    to: tcp(VIP_6, 80),
    outside: split6(8080),
    inside: whole6(8080),
  },
  {
    field: "ipFamilies",
    finds: "the backends of IPv4, which comes second of both families",
    given: {
      services: [service({ clusterIPs: [VIP_6, VIP] })],
      slices: [...slices, slice({ name: "web-6", endpoints: ENDPOINTS_6 })],
    },
    to: tcp(VIP, 80),
    outside: split(8080),
    inside: whole(8080),
  },
  {
    field: "ipFamilyPolicy",
    finds: "no backend of a family that has no slice yet",
    given: { services: [service({ clusterIPs: [VIP, VIP_6] })], slices },
    to: tcp(VIP_6, 80),
    outside: "refuse",
    inside: "refuse",
  },
  {
    field: "ipFamilyPolicy",
    finds: "no backend of IPv4 when only IPv6 has a slice",
    given: {
      services: [service({ clusterIPs: [VIP, VIP_6] })],
      slices: [slice({ name: "web-6", endpoints: ENDPOINTS_6 })],
    },
    to: tcp(VIP, 80),
    outside: "refuse",
    inside: "refuse",
  },
  {
    field: "conditions.terminating",
    finds: "a terminating endpoint that serves, once no other is left",
    given: {
      services: [service()],
      slices: [slice({ endpoints: [ending(HERE)] })],
    },
    to: tcp(VIP, 80),
    outside: { kept: ["10.244.1.2:8080"] },
    inside: { kept: ["10.244.1.2:8080"] },
  },
  {
    field: "conditions.ready",
    finds: "the ready one of two endpoints",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint(HERE), notReady(HERE_TOO)] })] },
    to: tcp(VIP, 80),
    outside: { kept: ["10.244.1.2:8080"] },
    inside: { kept: ["10.244.1.2:8080"] },
  },
  {
    field: "conditions.ready",
    finds: "nothing where no endpoint is ready",
    given: { services: [service()], slices: [slice({ endpoints: [notReady(HERE), notReady(THERE, "node2")] })] },
    to: tcp(VIP, 80),
    outside: "refuse",
    inside: "refuse",
  },
  {
    field: "endpoints",
    finds: "no backend at the Service's own address",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint(HERE), endpoint(VIP)] })] },
    to: tcp(VIP, 80),
    outside: { kept: ["10.244.1.2:8080"] },
    inside: { kept: ["10.244.1.2:8080"] },
  },
  {
    field: "precedence",
    finds: "the older of two Services at a cluster address of both",
    given: {
      services: [service({ age: 2 }), service({ name: "old", age: 1 })],
      slices: [...slices, slice({ service: "old", endpoints: [endpoint(HERE_TOO)] })],
    },
    to: tcp(VIP, 80),
    outside: { kept: ["10.244.1.3:8080"] },
    inside: { kept: ["10.244.1.3:8080"] },
  },
  {
    field: "service-proxy-name",
    finds: "another proxy's cluster address as it would without us",
    given: { services: [service({ isForeign: true })], slices },
    to: tcp(VIP, 80),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "type",
    finds: "no node port of a Service that is of type ClusterIP again",
    given: { services: [service({ type: "ClusterIP", ports: [{ nodePort: PORT }] })], slices },
    to: tcp(NODE1, PORT),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "nodeport-addresses",
    finds: "a node port on the node's address, which is primary",
    given: { ...onNodePort, nodePortAddresses: ["primary"] },
    to: tcp(NODE1, PORT),
    outside: split(8080),
    inside: whole(8080),
  },
  {
    field: "nodeport-addresses",
    finds: "no node port on the node's address when localhost alone has them",
    given: { ...onNodePort, nodePortAddresses: ["localhost"] },
    to: tcp(NODE1, PORT),
    outside: "pass",
    inside: "pass",
  },
  {
    field: "hostIP",
    finds: "a host port on the node's address that it names",
    given: { hostPorts: [hostPort({ hostAddress: NODE1 })] },
    to: tcp(NODE1, 8080),
    outside: { kept: ["10.244.1.2:80"] },
    inside: { kept: ["10.244.1.2:80"] },
  },
];

const onLoopback = {
  hostPorts: [
    hostPort({ hostAddress: "127.0.0.1" }),
    hostPort({ pod: "default/six", hostAddress: "::1", podAddress: HERE_6 }),
    hostPort({ pod: "default/udp", hostAddress: "127.0.0.1", protocol: "UDP", podAddress: HERE_TOO, podPort: 53 }),
  ],
};

export const SERVICE_FIELD_CASES: readonly FlowCase[] = [
  ...LINES.flatMap(fromEverywhere),
  {
    name: "a process of the host reaches a host port on 127.0.0.1",
    field: "hostIP",
    given: onLoopback,
    from: { kind: "host", address: "127.0.0.1" },
    to: tcp("127.0.0.1", 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
  {
    name: "a process of the host reaches a UDP host port on 127.0.0.1",
    field: "hostIP",
    given: onLoopback,
    from: { kind: "host", address: "127.0.0.1" },
    to: udp("127.0.0.1", 8080),
    expect: { kept: ["10.244.1.3:53"] },
  },
  {
    name: "a process of the host reaches a host port on ::1",
    field: "hostIP",
    given: onLoopback,
    from: { kind: "host", address: "::1" },
    to: tcp("::1", 8080),
    expect: { kept: ["[fd00:10:244:1::2]:80"] },
  },
  {
    name: "a host port on 127.0.0.1 does not answer on the node's address",
    field: "hostIP",
    given: onLoopback,
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "a pod's own loopback is not that of the host's ports",
    field: "hostIP",
    given: onLoopback,
    from: POD,
    to: tcp("127.0.0.1", 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "a packet that comes in to 127.0.0.1 finds no host port",
    field: "hostIP",
    given: onLoopback,
    from: OUTSIDE,
    to: tcp("127.0.0.1", 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "of two pods with one host port on different addresses each has its own",
    field: "hostIP",
    given: {
      hostPorts: [
        hostPort({ hostAddress: "127.0.0.1" }),
        hostPort({ pod: "default/b", age: 2, hostAddress: NODE1, podAddress: HERE_TOO }),
      ],
    },
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { kept: ["10.244.1.3:80"] },
  },
];
