// Examples of each command, as its help shows them. A test runs through all commands: each has some.

export const EXAMPLES: Readonly<Record<string, readonly (readonly [line: string, what: string])[]>> = {
  millrace: [
    ["millrace status", "is this node's agent well, and what is wrong"],
    ["millrace help flows", "the help of a command"],
  ],
  "millrace run": [
    ["millrace run --manifests /etc/millrace", "standalone: Services from files"],
    ["millrace run --kubeconfig /etc/kubernetes/admin.conf", "Services of a cluster"],
    ["millrace run --config /etc/millrace.yaml --xdp off", "settings from a file, and one that overrides it"],
  ],
  "millrace controller": [
    ["millrace controller", "in a pod, as deploy/controller.yaml has it"],
    ["millrace controller --kubeconfig admin.conf --namespace kube-system", "outside of the cluster"],
  ],
  "millrace prepare": [
    ["millrace prepare --config /etc/millrace/config.yaml", "in the DaemonSet's init container"],
    ["millrace prepare -o json", "what was done, and what could not be"],
  ],
  "millrace install": [
    ["millrace install", "the cluster of the current kubeconfig; says what it will do, and asks"],
    ["millrace install --context kind-dev --yes", "another cluster, without asking"],
    ["millrace install --set xdp=off --except w2", 'kept for later runs; --set "" and --except "" drop it again'],
    ["millrace install --dry-run >millrace.yaml", "the objects, for whoever applies them himself"],
  ],
  "millrace uninstall": [
    ["millrace uninstall", "back to kube-proxy, node after node"],
    ["millrace uninstall --node w2", "this node alone, until millrace install takes it again"],
    ["millrace uninstall --drain-timeout 1h", "connections may go on for an hour on each node"],
  ],
  "millrace status": [
    ["millrace status", "facts, then notices, errors first"],
    ["millrace status --check >/dev/null", "for scripts: exit status 1 when there are errors"],
    ["millrace status --name lab --node node2", "of a node of a lab"],
  ],
  "millrace services": [
    ["millrace services", "all of them; BACKENDS is ready/all"],
    ["millrace services -n shop web db", "two of one namespace"],
    ["millrace services -l app=web -o wide", "with policies, selector and target port"],
    ["millrace services -w", "go on with what changes"],
  ],
  "millrace backends": [
    ["millrace backends svc/web", "of default/web, those that are not ready too, and why"],
    ["millrace backends -n shop -o json", "for programs"],
  ],
  "millrace flows": [
    ["millrace flows shop/web --state syn-sent", "what waits for an answer"],
    ["millrace flows -n shop -l tier=front", "of Services with this label"],
    ["millrace flows --client 192.168.0.0/16 --limit 20", "the newest 20 of a network"],
    ["millrace flows -w --path packet", "go on with what changes"],
  ],
  "millrace drops": [
    ["millrace drops", "all there were, by Service, hook and verdict"],
    ["millrace drops -w shop/web", "what is dropped now, and how fast"],
  ],
  "millrace bypass": [
    ["millrace bypass", "how is it now?"],
    ["millrace bypass on", "nothing is translated from the next packet on"],
  ],
  "millrace doctor": [
    [
      "millrace doctor -q --kubeconfig /etc/kubernetes/admin.conf",
      "before an agent is started: what would be in its way",
    ],
    ["millrace doctor --config /etc/millrace/config.yaml -o json", "by the agent's own configuration, for programs"],
  ],
  "millrace cleanup": [
    ["millrace cleanup", "after an agent with default places"],
    ["millrace cleanup --state-dir /srv/millrace", "after one with --state-dir /srv/millrace"],
    ["millrace cleanup --kube-proxy", "kube-proxy's rules go, its connections live on"],
    ["millrace cleanup --drain --drain-timeout 10m", "kube-proxy takes over beside: known flows may end first"],
  ],
  "millrace version": [["millrace version -o json", "for programs"]],
  "millrace completion": [
    ["source <(millrace completion bash)", "in ~/.bashrc"],
    ["millrace completion fish > ~/.config/fish/completions/millrace.fish", "for fish"],
  ],
  "millrace help": [["millrace help lab up", "the same as millrace lab up --help"]],
  "millrace lab": [
    ["millrace lab up -f deploy/examples", "three nodes and some Services"],
    ["millrace lab exec client1 -- curl -s http://192.168.122.11:30001/", "a client outside"],
    ["millrace lab down", "and nothing is left"],
  ],
  "millrace lab up": [
    ["millrace lab up", "three nodes, pods on bridges"],
    ["millrace lab up --nodes 2 --cni ptp --ipv6 -f web.yaml", "another kind of cluster"],
  ],
  "millrace lab down": [["millrace lab down --name demo", "also one that crashed"]],
  "millrace lab apply": [["millrace lab apply -f web.yaml", "returns when it is in force on every node"]],
  "millrace lab delete": [["millrace lab delete -f web.yaml", "what it defines"]],
  "millrace lab scale": [["millrace lab scale deployment/web 5", "five pods of default/web"]],
  "millrace lab ready": [["millrace lab ready web-1 false", "its readiness probe fails from now on"]],
  "millrace lab kill": [
    ["millrace lab kill node3", "as if its power failed"],
    ["millrace lab kill agent node1", "the agent alone"],
  ],
  "millrace lab start": [["millrace lab start node3", "after millrace lab kill node3"]],
  "millrace lab join": [["millrace lab join node4", "one more"]],
  "millrace lab link": [["millrace lab link node1 down", "pull the plug"]],
  "millrace lab split": [["millrace lab split node1,node2 node3", "node3 alone on its side"]],
  "millrace lab heal": [["millrace lab heal", "one LAN again"]],
  "millrace lab host": [["millrace lab host printer --address 192.168.122.50", "somebody has this address"]],
  "millrace lab status": [["millrace lab status -o json", "for programs"]],
  "millrace lab exec": [
    ["millrace lab exec web-1 -- ip addr", "in a pod"],
    ["millrace lab exec node1 -- ss -tn", "on a node"],
  ],
  "millrace lab demo": [["millrace lab demo --once", "all examples, then the lab is taken down"]],
};

/** The part of a help text below "Examples:". */
export function examplesText(path: string): string {
  const lines = (EXAMPLES[path] ?? []).map(([line, what]) => `  ${line.padEnd(44)}  # ${what}`);
  return lines.length === 0 ? "" : `\nExamples:\n${lines.join("\n")}`;
}
