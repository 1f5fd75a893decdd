// Debian packages of any suite by this machine's apt, with a configuration of its own per suite: the machine's is not touched.
// The mirror is the one that the machine itself uses.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../src/lib/errors.ts";
import { CACHE } from "./paths.ts";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

export interface Apt {
  readonly suite: string;
  /** Names of packages that match, the newest version first. */
  find(pattern: RegExp): string[];
  /** Names of packages that `name` cannot do without and that match. */
  dependencies(name: string, pattern: RegExp): string[];
  /** Puts the packages' files into a directory. @throws Failure "machine" */
  download(names: readonly string[], directory: string): void;
  /** Fetches the lists anew. */
  update(): void;
}

function run(program: string, args: readonly string[], config: string | undefined, cwd = "/"): string {
  const env = { ...process.env, LC_ALL: "C", ...(config === undefined ? {} : { APT_CONFIG: config }) };
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: "utf8",
    env,
    cwd,
    maxBuffer: 1 << 28,
  });
  if (status === 0) return stdout;
  const why = error?.message ?? (stderr.trim().split("\n").at(-1) || `status ${status}`);
  throw new Failure("machine", program, `could not run ${program} ${args[0]}: ${why}`);
}

interface Mirrors {
  /** Of Debian itself, and of its security updates when the machine has them. */
  readonly debian: string;
  readonly security: string | undefined;
  /** Suites that the machine's own apt sees. */
  readonly suites: ReadonlySet<string>;
}

/** Where this machine's apt takes Debian from; undefined when its lists are not there. */
function readMirrors(): Mirrors | undefined {
  const format = "$(LABEL)\t$(REPO_URI)\t$(CODENAME)";
  const lines = run("apt-get", ["indextargets", "--format", format, "Identifier: Packages"], undefined)
    .split("\n")
    .map((line) => line.split("\t"));
  const uriOf = (label: string): string | undefined => lines.find(([found]) => found === label)?.[1];
  const debian = uriOf("Debian");
  if (debian === undefined) return undefined;
  return {
    debian,
    security: uriOf("Debian-Security"),
    suites: new Set(lines.flatMap(([, , codename]) => codename ?? [])),
  };
}

function mirrors(): Mirrors {
  const found = readMirrors();
  if (found !== undefined) return found;
  run("apt-get", ["-q", "update"], undefined);
  const now = readMirrors();
  if (now !== undefined) return now;
  throw new Failure("machine", "apt", "could not find Debian's mirror among the sources of this machine's apt");
}

/** The apt configuration that sees `suite`, with its lists; undefined for the machine's own. */
function configurationFor(suite: string): string | undefined {
  const { debian, security, suites } = mirrors();
  if (suites.has(suite)) return undefined;
  const directory = join(CACHE, "apt", suite);
  for (const path of ["etc/apt/preferences.d", "etc/apt/apt.conf.d", "etc/apt/sources.list.d"]) {
    mkdirSync(join(directory, path), { recursive: true });
  }
  for (const path of ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial"]) {
    mkdirSync(join(directory, path), { recursive: true });
  }
  const config = join(directory, "apt.conf");
  // A suite that is no longer renewed has a date that ran out.
  writeFileSync(
    config,
    `Dir "${directory}";
Dir::Etc "etc/apt";
Dir::State "var/lib/apt";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "var/cache/apt";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Languages "none";
APT::Sandbox::User "root";
`,
  );
  const line = (uri: string, name: string): string => `deb [arch=amd64 signed-by=${KEYRING}] ${uri} ${name} main\n`;
  const update = (sources: string): void => {
    writeFileSync(join(directory, "etc/apt/sources.list"), sources);
    run("apt-get", ["-q", "update"], config);
  };
  const plain = line(debian, suite);
  try {
    update(security === undefined ? plain : `${plain}${line(security, `${suite}-security`)}`);
  } catch {
    // Not every suite has security updates.
    update(plain);
  }
  return config;
}

/** apt for one of Debian's suites. @throws Failure "machine" when it cannot be had */
export function aptFor(suite: string): Apt {
  const config = configurationFor(suite);
  return {
    suite,
    find(pattern) {
      const names = run("apt-cache", ["pkgnames", "linux-"], config).split("\n");
      const byVersion = new Intl.Collator("en", { numeric: true });
      return names.filter((name) => pattern.test(name)).sort((a, b) => byVersion.compare(b, a));
    },
    dependencies(name, pattern) {
      const lines = run("apt-cache", ["depends", "--important", name], config).split("\n");
      const names = lines.map((line) => /^ *(?:Pre)?Depends: (\S+)$/.exec(line)?.[1] ?? "");
      return names.filter((dependency) => pattern.test(dependency));
    },
    download(names, directory) {
      mkdirSync(directory, { recursive: true });
      run("apt-get", ["-q", "download", ...names], config, directory);
    },
    update() {
      run("apt-get", ["-q", "update"], config);
    },
  };
}
