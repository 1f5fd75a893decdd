// Writes the tables of kube-proxy's own tests to build/: they are run with our files laid over the module in Go's cache, which
// write what is asked. Nothing of theirs is kept.
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runChecked } from "../../../src/lab/shell.ts";
import { MODULE } from "../../cluster/programs.ts";
import { TABLES } from "./paths.ts";

/** Go lays nothing over files of its cache by their own names: the module gets another one. */
const KUBERNETES = join(TABLES, "kubernetes");
const MODULE_FILE = join(TABLES, "tables.mod");

/** Puts `text` behind the one place in a Go file that `after` finds. */
function insert(source: string, after: RegExp, text: string): string {
  const places = [...source.matchAll(new RegExp(after, "gm"))];
  if (places.length !== 1) throw new Error(`${after} is found ${places.length} times: kube-proxy's tests have changed`);
  const end = places[0]!.index + places[0]![0].length;
  return `${source.slice(0, end)}\n${text}${source.slice(end)}`;
}

interface Table {
  readonly name: string;
  readonly directory: string;
  readonly tests: string;
  /** Our files, by the name that they have among theirs. */
  readonly added: Readonly<Record<string, string>>;
  readonly changed: Readonly<Record<string, (source: string) => string>>;
}

const TABLES_OF_KUBE_PROXY: readonly Table[] = [
  {
    name: "categorized",
    directory: "pkg/proxy",
    tests: "^TestCategorizeEndpoints$",
    added: { "categorized.go": "millrace_categorized_test.go" },
    changed: {
      "topology_test.go": (source) =>
        insert(
          source,
          /^\tfor _, tc := range testCases \{$/,
          "dumpCategorized(tc.name, tc.preferSameEnabled, tc.nodeName, tc.nodeLabels, tc.serviceInfo, tc.endpoints, tc.clusterEndpoints, tc.localEndpoints, tc.onlyRemoteEndpoints)",
        ),
    },
  },
  {
    name: "packets",
    directory: "pkg/proxy/nftables",
    tests: ".",
    added: { "objects.go": "millrace_objects.go", "packets.go": "millrace_packets_test.go" },
    changed: {
      "helpers_test.go": (source) =>
        insert(source, /^func runPacketFlowTests\(.*\) \{$/, "\tdumpPackets(t, nft, testCases)"),
      "proxier.go": (source) =>
        [
          [/^func \(proxier \*Proxier\) OnServiceUpdate\(.*\) \{$/, "\tkeepService(proxier, oldService, service)"],
          [/^func \(proxier \*Proxier\) OnEndpointSliceAdd\(.*\) \{$/, "\tkeepSlice(proxier, endpointSlice, false)"],
          [/^func \(proxier \*Proxier\) OnEndpointSliceUpdate\(.*\) \{$/, "\tkeepSlice(proxier, endpointSlice, false)"],
          [/^func \(proxier \*Proxier\) OnEndpointSliceDelete\(.*\) \{$/, "\tkeepSlice(proxier, endpointSlice, true)"],
        ].reduce((text, [after, line]) => insert(text, after as RegExp, line as string), source),
    },
  },
];

async function write({ name, directory, tests, added, changed }: Table): Promise<void> {
  const theirs = (file: string) => join(KUBERNETES, directory, file);
  const replaced: Record<string, string> = {};
  for (const [file, as] of Object.entries(added)) replaced[theirs(as)] = join(import.meta.dirname, file);
  for (const [file, change] of Object.entries(changed)) {
    const path = join(TABLES, `${name}-${file}`);
    writeFileSync(path, change(readFileSync(theirs(file), "utf8")));
    replaced[theirs(file)] = path;
  }
  const overlay = join(TABLES, `${name}-overlay.json`);
  writeFileSync(overlay, JSON.stringify({ Replace: replaced }, undefined, 1));
  const table = join(TABLES, `${name}.jsonl`);
  const env = { ...process.env, CGO_ENABLED: "0", GOWORK: "off", TABLES: table };
  const options = [`-modfile=${MODULE_FILE}`, `-overlay=${overlay}`, "-trimpath", "-buildvcs=false", "-vet=off"];
  const args = ["-C", MODULE, "test", ...options, "-count=1", `-run=${tests}`, `k8s.io/kubernetes/${directory}`];
  await runChecked("nice", ["-n", "5", "go", ...args], { env });
  const lines = readFileSync(table, "utf8").trim().split("\n").length;
  process.stderr.write(`  ${lines} lines of ${directory}\n`);
}

rmSync(TABLES, { recursive: true, force: true });
mkdirSync(TABLES, { recursive: true });
const list = ["-C", MODULE, "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"];
symlinkSync((await runChecked("go", list)).trim(), KUBERNETES);
const required = readFileSync(join(MODULE, "go.mod"), "utf8");
writeFileSync(MODULE_FILE, `${required}\nreplace k8s.io/kubernetes => ${KUBERNETES}\n`);
copyFileSync(join(MODULE, "go.sum"), MODULE_FILE.replace(/mod$/, "sum"));
for (const table of TABLES_OF_KUBE_PROXY) await write(table);
