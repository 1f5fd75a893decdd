// docs/doctor.md: every check of `millrace doctor`, and every platform that it knows, as the sources have them.
import { CHECKS, type CheckName, GROUPS, type Group, groupOf } from "../src/agent/doctor/finding.ts";
import { PLATFORMS } from "../src/agent/doctor/platform.ts";

const INTRO = `# millrace doctor

Generated from the checks by \`make docs\`.

\`millrace doctor\` looks at a machine as an agent would meet it and says what is in the way: a line for each check, ok, warning or error, with what to do. It
needs no agent, and asks one that runs. It takes the options of \`millrace run\`, by flags, environment and \`--config\`, so that the same words tell what that
agent would meet. It changes nothing on the machine or in the cluster: programs are loaded into maps of their own and thrown away, rights are asked for by
SelfSubjectAccessReview, manifests are allocated from in a directory that is removed.

- Root sees all of it. Another user is told what was not looked at.
- \`-q\` leaves out what is ok. \`-o json\` has \`level\` (the worst), \`counts\` and \`findings\`: \`group\`, \`check\`, \`level\`, \`says\`, \`do\`.
- Exit status: 0 with nothing worse than warnings, 1 when an error was found, 2 for wrong usage.
- Each part has 90 seconds and a line of its own when it fails; none keeps another from being looked at.
- On a node of a cluster that has the DaemonSet: \`kubectl -n kube-system exec ds/millrace -c agent -- millrace doctor --config /etc/millrace/config.yaml\`.
- In a pod the machine's processes and files are not seen: what they would tell is told by ports, devices and the Node object, and the line says so.
`;

function checksOf(group: Group): string {
  const rows = (Object.keys(CHECKS) as CheckName[])
    .filter((check) => groupOf(check) === group)
    .map((check) => `| \`${check}\` | ${CHECKS[check]} |`);
  return `## ${GROUPS[group]}\n\n| check | looks at |\n|---|---|\n${rows.join("\n")}\n`;
}

/** Sentences as they stand behind a colon. */
const capital = (text: string): string => `${text[0]?.toUpperCase()}${text.slice(1)}`;

export function doctorPage(): string {
  const platforms = PLATFORMS.map(({ name, known }) => {
    const lines = known.map(({ says, do: todo }) => `${capital(says)}. ${capital(todo)}.`);
    return `| ${name} | ${lines.join(" ")} |`;
  });
  return `${INTRO}
${(Object.keys(GROUPS) as Group[]).map(checksOf).join("\n")}
## Platforms that are known

Told by the Node object (labels, \`providerID\`, versions), files and firmware. Tests run on clusters of kubeadm in kind and in network namespaces; what is said of others is from their documentation.

| platform | what is known of it |
|---|---|
${platforms.join("\n")}
`;
}
