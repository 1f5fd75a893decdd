// The bundle as it is run: dist/millrace, made anew when a source is newer than it, and its answer to one command line.
import { execFile, execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
export const dist = join(root, "dist");

function newest(directory: string, ending: string): number {
  const files = readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(ending));
  return Math.max(...files.map((path) => statSync(join(directory, path)).mtimeMs));
}

/** dist/millrace of these sources. Throws when it cannot be built. */
export function bundle(): string {
  const program = join(dist, "millrace");
  const main = join(dist, "millrace.mjs");
  if (!existsSync(main) || statSync(main).mtimeMs < newest(join(root, "src"), ".ts"))
    execFileSync("flock", [join(root, "build/.lock"), "make", "bundle"], { cwd: root, stdio: "ignore" });
  return program;
}

export interface Answer {
  readonly out: string;
  readonly err: string;
  readonly status: number;
}

/** Beside this process, which may be the agent that is asked. */
export function runBundle(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const { promise, resolve: answer } = Promise.withResolvers<Answer>();
  const env = { PATH: "/usr/bin:/bin", ...environment };
  execFile(bundle(), [...args], { env, timeout: 60_000, maxBuffer: 1 << 26 }, (error, out, err) =>
    answer({ out, err, status: error === null ? 0 : Number(error.code ?? -1) }),
  );
  return promise;
}
