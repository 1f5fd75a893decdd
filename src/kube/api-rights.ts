// What an agent asks of the Kubernetes API, as rules of RBAC: what `deploy/rbac.yaml` grants, and `millrace doctor` asks for.

export interface AgentRight {
  /** "" for the core group. */
  readonly group: string;
  /** "plural", or "plural/subresource". */
  readonly resource: string;
  readonly verbs: readonly string[];
  /** In the namespace of `--namespace` alone, instead of the whole cluster. */
  readonly inNamespace: boolean;
  /** Without it the agent serves nothing; else it serves, and says what it lacks. */
  readonly needed: boolean;
  /** What is lost without it. */
  readonly lost: string;
}

const READ = ["list", "watch"] as const;

const right = (group: string, resource: string, rest: Partial<AgentRight> & Pick<AgentRight, "lost">): AgentRight => ({
  ...{ group, resource, verbs: READ, inNamespace: false, needed: false },
  ...rest,
});

export const AGENT_RIGHTS: readonly AgentRight[] = [
  right("", "services", { needed: true, lost: "no Service is served" }),
  right("", "nodes", { needed: true, lost: "no Service is served" }),
  right("discovery.k8s.io", "endpointslices", { needed: true, lost: "no Service is served" }),
  right("networking.k8s.io", "servicecidrs", { lost: "free cluster addresses are not known as such" }),
  right("metallb.io", "ipaddresspools", { lost: "no LoadBalancer address is announced" }),
  right("metallb.io", "l2advertisements", { lost: "no LoadBalancer address is announced" }),
  right("", "events", { verbs: ["create", "patch"], lost: "no events are written" }),
  right("metallb.io", "servicel2statuses", {
    ...{ verbs: ["list", "create", "delete"], inNamespace: true, lost: "nobody is told which node announces what" },
  }),
  right("metallb.io", "servicel2statuses/status", {
    ...{ verbs: ["patch"], inNamespace: true, lost: "nobody is told which node announces what" },
  }),
];
