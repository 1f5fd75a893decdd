// Manifests of what UDP clients of a lab ask: a Service at an address that is known before it is made, and pods, each at one of its own.

export const udpPod = (name: string, app: string, address: string, nodeName: string, port: number): string => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: ${app}}, annotations: {millrace.io/pod-ip: ${address}}}
spec: {nodeName: ${nodeName}, containers: [{name: c, image: any, ports: [{containerPort: ${port}, protocol: UDP}]}]}
---`;

/** Of pods whose app has its name. */
export const udpService = (name: string, clusterIP: string, port: number): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {clusterIP: ${clusterIP}, selector: {app: ${name}}, ports: [{port: ${port}, protocol: UDP}]}
---`;
