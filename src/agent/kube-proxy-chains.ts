// Which of a table's iptables chains are kube-proxy's, and what takes them out: from the text of iptables-save to the text for
// iptables-restore. Pure. kubelet's own chains, and those of others that begin alike (KUBE-ROUTER-, KUBE-POD-FW-, KUBE-NWPLCY-), stay.

/** Of its iptables and its IPVS mode, in any version since 1.10. */
const CHAINS: ReadonlySet<string> = new Set([
  "KUBE-SERVICES",
  "KUBE-EXTERNAL-SERVICES",
  "KUBE-NODEPORTS",
  "KUBE-POSTROUTING",
  "KUBE-MARK-MASQ",
  "KUBE-FORWARD",
  "KUBE-PROXY-FIREWALL",
  "KUBE-PROXY-CANARY",
  "KUBE-SOURCE-RANGES-FIREWALL",
  "KUBE-NODE-PORT",
  "KUBE-LOAD-BALANCER",
  "KUBE-IPVS-FILTER",
  "KUBE-IPVS-OUT-FILTER",
]);
/** One for each Service port or endpoint. */
const CHAIN_PREFIXES = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"];

const isKubeProxys = (chain: string): boolean =>
  CHAINS.has(chain) || CHAIN_PREFIXES.some((prefix) => chain.startsWith(prefix));

interface Rule {
  readonly chain: string;
  /** As behind "-A CHAIN". */
  readonly rest: string;
  /** "" when it leads nowhere else. */
  readonly target: string;
}

export interface ChainRemoval {
  /** For `iptables-restore --noflush`; "": there is nothing to remove. */
  readonly script: string;
  readonly chains: number;
  /** Rules in chains of others that led to them. */
  readonly jumps: number;
  /** Chains that stay because rules of others lead to them, with those others. */
  readonly kept: readonly { readonly chain: string; readonly by: string }[];
}

function ruleOf(line: string): Rule | undefined {
  const found = /^-A (\S+) ?(.*)$/.exec(line);
  if (found === null) return undefined;
  const [, chain = "", rest = ""] = found;
  // A comment may hold anything, in quotes.
  const bare = rest.replace(/"(?:[^"\\]|\\.)*"/g, "");
  return { chain, rest, target: /(?:^| )(?:-j|-g) (\S+)/.exec(bare)?.[1] ?? "" };
}

/** `saved`: what `iptables-save -t TABLE` says. */
export function kubeProxyChains(saved: string, table: string): ChainRemoval {
  const lines = saved.split("\n");
  const rules = lines.flatMap((line) => ruleOf(line) ?? []);
  const policies = lines.flatMap((line) => {
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    return chain === undefined ? [] : [{ chain, isBuiltIn: policy !== "-" }];
  });
  const builtIn = new Set(policies.filter((one) => one.isBuiltIn).map(({ chain }) => chain));
  const own = policies.map(({ chain }) => chain).filter(isKubeProxys);
  const goes = new Set(own);

  // A table may have hundreds of thousands of both.
  const targets = new Map<string, string[]>();
  for (const { chain, target } of rules) {
    const known = targets.get(chain);
    if (known === undefined) targets.set(chain, [target]);
    else known.push(target);
  }
  const kept: { chain: string; by: string }[] = [];
  const keep = (chain: string, by: string): void => {
    if (!goes.delete(chain)) return;
    kept.push({ chain, by });
    for (const target of targets.get(chain) ?? []) keep(target, chain);
    // The mark says that the source is to be translated, which the other chain does.
    if (chain === "KUBE-MARK-MASQ") keep("KUBE-POSTROUTING", chain);
  };
  for (const { chain, target } of rules) {
    if (goes.has(target) && !builtIn.has(chain) && !isKubeProxys(chain)) keep(target, chain);
  }

  const jumps = rules.filter(({ chain, target }) => goes.has(target) && !goes.has(chain));
  if (goes.size === 0) return { script: "", chains: 0, jumps: 0, kept };
  const script = [
    `*${table}`,
    ...[...goes].map((chain) => `:${chain} - [0:0]`),
    ...jumps.map(({ chain, rest }) => `-D ${chain} ${rest}`),
    ...[...goes].map((chain) => `-X ${chain}`),
    "COMMIT",
    "",
  ].join("\n");
  return { script, chains: goes.size, jumps: jumps.length, kept };
}
