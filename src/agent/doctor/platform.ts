// Which kind of cluster and machine this is, and what is known to be special there: of the Node object, files and firmware. Pure.
import { type Finding, ok, warning } from "./finding.ts";

export interface PlatformFacts {
  /** Labels of the Node object. */
  readonly labels: Readonly<Record<string, string>>;
  readonly providerId: string;
  readonly osImage: string;
  /** "v1.34.1+k3s1". */
  readonly kubeletVersion: string;
  /** ID of /etc/os-release. */
  readonly osId: string;
  /** Of the files that `PLATFORM_FILES` names, those that are there. */
  readonly files: readonly string[];
  /** Vendor, product and version of /sys/class/dmi/id, each once. */
  readonly dmi: readonly string[];
}

export interface Platform {
  readonly name: string;
  readonly is: (facts: PlatformFacts) => boolean;
  /** What is known of it, a sentence each, with what to do. */
  readonly known: readonly { readonly says: string; readonly do: string; readonly level?: "ok" }[];
}

/** Files that tell. */
export const PLATFORM_FILES = [
  "/kind",
  "/.dockerenv",
  "/var/lib/minikube",
  "/etc/rancher/k3s",
  "/var/lib/rancher/k3s",
  "/etc/rancher/rke2",
  "/var/lib/rancher/rke2",
  "/var/lib/k0s",
  "/var/snap/microk8s",
  "/etc/kubernetes/admin.conf",
  "/etc/kubernetes/kubelet.conf",
  "/var/run/ostree-booted",
] as const;

const noArp = (network: string, instead: string) => ({
  says: `${network} answers ARP itself: LoadBalancer addresses that a node announces there reach nobody`,
  do: instead,
});
const CLOUD_BALANCER =
  "use the cloud's own balancer for LoadBalancer Services (loadBalancerClass), or addresses that it routes to nodes";

export const PLATFORMS: readonly Platform[] = [
  {
    name: "kind",
    is: ({ providerId, files }) => providerId.startsWith("kind://") || files.includes("/kind"),
    known: [
      {
        says: "nodes are containers of one Docker network, whose bpffs and pins end when the container is stopped",
        do: "create clusters with networking.kubeProxyMode: none, and take LoadBalancer pools out of that network (docker network inspect kind)",
        level: "ok",
      },
    ],
  },
  {
    name: "minikube",
    is: ({ labels, files }) => labels["minikube.k8s.io/name"] !== undefined || files.includes("/var/lib/minikube"),
    known: [
      {
        says: "kube-proxy is installed by kubeadm, and addresses of its network are reached from this machine alone",
        do: "start it with --extra-config=kubeadm.skip-phases=addon/kube-proxy; pools out of the network of `minikube ip` need no tunnel",
        level: "ok",
      },
    ],
  },
  {
    name: "RKE2",
    is: ({ kubeletVersion, files }) => kubeletVersion.includes("+rke2") || files.some((file) => file.endsWith("/rke2")),
    known: [
      {
        says: "kube-proxy runs as a static pod of RKE2, which brings it back",
        do: "set disable-kube-proxy: true in /etc/rancher/rke2/config.yaml of the servers, remove agent/pod-manifests/kube-proxy.yaml, and name the API server with --apiserver",
      },
    ],
  },
  {
    name: "k3s",
    is: ({ kubeletVersion, labels, files }) =>
      kubeletVersion.includes("+k3s") ||
      labels["node.kubernetes.io/instance-type"] === "k3s" ||
      files.some((file) => file.endsWith("/k3s")),
    known: [
      {
        says: "kube-proxy and servicelb run within k3s, and are not to be taken out by objects",
        do: "start the servers with --disable-kube-proxy --disable=servicelb",
      },
    ],
  },
  {
    name: "k0s",
    is: ({ kubeletVersion, files }) => kubeletVersion.includes("+k0s") || files.includes("/var/lib/k0s"),
    known: [
      {
        says: "k0s brings kube-proxy back when its DaemonSet is changed",
        do: "set spec.network.kubeProxy.disabled: true in its configuration",
      },
    ],
  },
  {
    name: "MicroK8s",
    is: ({ labels, files }) => labels["microk8s.io/cluster"] !== undefined || files.includes("/var/snap/microk8s"),
    known: [
      {
        says: "kube-proxy runs within kubelite, and directories of the kubelet lie below /var/snap/microk8s",
        do: "see whether your version can leave kube-proxy out before you rely on it; not tried here",
      },
    ],
  },
  {
    name: "Talos",
    is: ({ osId, osImage }) => osId === "talos" || osImage.startsWith("Talos"),
    known: [
      {
        says: "kube-proxy is the machine configuration's, files outside /var cannot be written, and pods get no SYS_MODULE",
        do: "set cluster.proxy.disabled: true (in 1.14 and later KubeProxyConfig with enabled: false); the agent needs no module and keeps its state in /var/lib/millrace",
        level: "ok",
      },
    ],
  },
  {
    name: "OpenShift",
    is: ({ labels, osImage, osId }) =>
      labels["node.openshift.io/os_id"] !== undefined ||
      /CoreOS.*(OpenShift|[Oo]cp)|Red Hat Enterprise Linux CoreOS/.test(osImage) ||
      osId === "rhcos",
    known: [
      {
        says: "OVN-Kubernetes serves Services itself, and cannot be told not to",
        do: "use Millrace only with another network plug-in, and grant its account the SCC privileged",
      },
    ],
  },
  {
    name: "Amazon EKS or EC2",
    is: ({ providerId, labels, dmi }) =>
      providerId.startsWith("aws://") ||
      labels["eks.amazonaws.com/nodegroup"] !== undefined ||
      dmi.some((text) => /Amazon EC2/.test(text)),
    known: [
      noArp("the VPC", CLOUD_BALANCER),
      {
        says: "instances drop packets from addresses that are not theirs (source/destination check)",
        do: "nothing for Services behind node ports: translated packets bear the node's address",
        level: "ok",
      },
      {
        says: "on EKS kube-proxy is an add-on, which is brought back while it is installed",
        do: "delete the add-on (aws eks delete-addon --addon-name kube-proxy) once Millrace serves",
      },
    ],
  },
  {
    name: "Google GKE or Compute Engine",
    is: ({ providerId, labels, dmi }) =>
      providerId.startsWith("gce://") ||
      labels["cloud.google.com/gke-nodepool"] !== undefined ||
      dmi.some((text) => /Google( Compute Engine)?$/.test(text)),
    known: [
      noArp("the VPC", CLOUD_BALANCER),
      {
        says: "GKE Dataplane V2 is Cilium, which serves Services itself; without it kube-proxy is a static pod that is brought back",
        do: "use clusters of your own on Compute Engine",
      },
    ],
  },
  {
    name: "Microsoft AKS or Azure",
    is: ({ providerId, labels, dmi }) =>
      providerId.startsWith("azure://") ||
      labels["kubernetes.azure.com/cluster"] !== undefined ||
      dmi.some((text) => /7783-7084-3265-9085-8269-3286-77/.test(text)),
    known: [
      noArp("the virtual network", CLOUD_BALANCER),
      {
        says: "on AKS kube-proxy is managed and brought back",
        do: "have it disabled by the network profile's kubeProxyConfig (enabled: false; a preview feature)",
      },
    ],
  },
  {
    name: "Hetzner Cloud",
    is: ({ providerId, dmi }) => providerId.startsWith("hcloud://") || dmi.some((text) => /^Hetzner/.test(text)),
    known: [noArp("its network", "use its load balancers, or alias addresses that are assigned to a server")],
  },
  {
    name: "DigitalOcean",
    is: ({ providerId, dmi }) =>
      providerId.startsWith("digitalocean://") || dmi.some((text) => /^DigitalOcean/.test(text)),
    known: [noArp("its network", CLOUD_BALANCER)],
  },
  {
    name: "Oracle Cloud",
    is: ({ providerId, dmi }) => providerId.startsWith("ocid1.") || dmi.some((text) => /OracleCloud/.test(text)),
    known: [noArp("its network", CLOUD_BALANCER)],
  },
  {
    name: "OpenStack",
    is: ({ providerId, dmi }) => providerId.startsWith("openstack://") || dmi.some((text) => /OpenStack/.test(text)),
    known: [
      {
        says: "port security drops ARP and packets of addresses that a port is not known to have",
        do: "allow the pools' addresses on the nodes' ports (allowed address pairs), or turn port security off there",
      },
    ],
  },
  {
    name: "VMware vSphere",
    is: ({ providerId, dmi }) => providerId.startsWith("vsphere://") || dmi.some((text) => /^VMware/.test(text)),
    known: [
      {
        says: "NSX may filter ARP of addresses that a machine is not known to have (SpoofGuard)",
        do: "where NSX is in use, allow the pools' addresses for the nodes' ports",
        level: "ok",
      },
    ],
  },
  {
    name: "kubeadm",
    is: ({ files }) => files.includes("/etc/kubernetes/admin.conf") || files.includes("/etc/kubernetes/kubelet.conf"),
    known: [
      {
        says: "kube-proxy is a DaemonSet in kube-system",
        do: "'millrace install' takes it out of service node by node; new clusters: kubeadm init --skip-phases=addon/kube-proxy",
        level: "ok",
      },
    ],
  },
];

/** A finding for each thing known of each platform that this is; clusters of clusters (k3s on EC2) are both. */
export function judgePlatform(facts: PlatformFacts): Finding[] {
  const check = "platform.name";
  const found = PLATFORMS.filter(({ is }) => is(facts));
  // kind and minikube are made by kubeadm, and say it better.
  const special = found.some(({ name }) => ["kind", "minikube"].includes(name));
  const shown = special ? found.filter(({ name }) => name !== "kubeadm") : found;
  if (shown.length === 0)
    return [ok(check, `no platform that is known to be special${facts.osImage === "" ? "" : `: ${facts.osImage}`}`)];
  return shown.flatMap(({ name, known }) =>
    known.map(
      ({ says, do: todo, level }): Finding =>
        level === "ok"
          ? { check, level: "ok", says: `${name}: ${says}`, do: todo }
          : warning(check, `${name}: ${says}`, todo),
    ),
  );
}
