// A Node as a kubelet keeps it, with the weight that its status has in real clusters: images, conditions, node info.
import { type KubernetesObject, uidOf } from "./object-store.ts";

export interface NodeShape {
  readonly name: string;
  readonly address: string;
  readonly zone: string;
  readonly podCidrs: readonly string[];
}

const SINCE = "2026-01-01T00:00:00Z";
const IMAGES = 12;

export function nodeObject({ name, address, zone, podCidrs }: NodeShape): KubernetesObject {
  const resources = { cpu: "8", "ephemeral-storage": "83873772Ki", memory: "32386548Ki", pods: "250" };
  return {
    kind: "Node",
    metadata: {
      name,
      labels: {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "m6i.2xlarge",
        "topology.kubernetes.io/region": zone.slice(0, -1),
        "topology.kubernetes.io/zone": zone,
      },
      annotations: { "node.alpha.kubernetes.io/ttl": "0" },
    },
    spec: { podCIDR: podCidrs[0], podCIDRs: podCidrs },
    status: {
      capacity: resources,
      allocatable: { ...resources, cpu: "7910m", memory: "31370740Ki" },
      conditions: [
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
      ],
      addresses: [
        { type: "InternalIP", address },
        { type: "Hostname", address: name },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
      nodeInfo: {
        machineID: uidOf("machine", name).replaceAll("-", ""),
        systemUUID: uidOf("system", name),
        bootID: uidOf("boot", name),
        kernelVersion: "6.12.41+deb13-amd64",
        osImage: "Debian GNU/Linux 13 (trixie)",
        containerRuntimeVersion: "containerd://2.1.4",
        kubeletVersion: "v1.34.1",
        kubeProxyVersion: "",
        operatingSystem: "linux",
        architecture: "amd64",
      },
      images: Array.from({ length: IMAGES }, (_, i) => image(i)),
    },
  };
}

function condition(type: string, status: string, reason: string): object {
  return { type, status, lastHeartbeatTime: SINCE, lastTransitionTime: SINCE, reason, message: `kubelet: ${reason}` };
}

function image(index: number): object {
  const digest = uidOf("image", String(index)).replaceAll("-", "").repeat(2);
  const repository = `registry.example/team/application-${index}`;
  return { names: [`${repository}@sha256:${digest}`, `${repository}:v1.${index}.0`], sizeBytes: 52_428_800 + index };
}
