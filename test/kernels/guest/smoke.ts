// In a guest: `smoke.ts FILE [nic]` takes every path of packets once, in a lab, or with `nic` between two NICs of a real driver,
// and writes what held as JSON.
import { execFileSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";

export interface SmokeCheck {
  readonly name: string;
  /** What was wrong; undefined when it held. */
  readonly wrong?: string;
  /** Worth knowing where it held. */
  readonly note?: string;
  readonly seconds: number;
}

/** What the machine has that a test could leave behind: devices, namespaces, pins, programs, rules. */
export type MachineState = ReadonlySet<string>;

const SETTLE_MS = 20_000;

/** Checks that go on after one that fails. */
export class Smoke {
  readonly checks: SmokeCheck[] = [];

  /** `body` returns what is wrong. */
  async check(name: string, body: () => Promise<string | undefined>): Promise<void> {
    const began = performance.now();
    const wrong = await body().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
    const seconds = Math.round((performance.now() - began) / 100) / 10;
    this.checks.push({ name, seconds, ...(wrong === undefined ? {} : { wrong }) });
    process.stdout.write(
      `${wrong === undefined ? "ok    " : "FAILED"} ${name} (${seconds} s)${wrong === undefined ? "" : `: ${wrong}`}\n`,
    );
  }

  /** Says more of the check that was made last. */
  note(text: string): void {
    const last = this.checks.pop();
    if (last === undefined) throw new Error("there is no check to say more of");
    this.checks.push({ ...last, note: text });
    process.stdout.write(`       ${text}\n`);
  }

  machine(): MachineState {
    return new Set([
      ...linesOf("ip", ["-br", "link"]),
      ...programs(),
      ...entries("/run/netns"),
      ...entries("/sys/fs/bpf"),
      ...linesOf("nft", ["list", "tables"]),
    ]);
  }

  /** What is there now and was not before, once what ends by itself has ended: the kernel frees programs a moment later. */
  async leftSince(before: MachineState): Promise<string[]> {
    for (const deadline = Date.now() + SETTLE_MS; ; await new Promise((resolve) => setTimeout(resolve, 500))) {
      const left = [...this.machine()].filter((line) => !before.has(line));
      if (left.length === 0 || Date.now() > deadline) return left;
    }
  }
}

function linesOf(program: string, args: readonly string[]): string[] {
  const text = execFileSync(program, args, { encoding: "utf8" });
  return text.split("\n").flatMap((line) => (line === "" ? [] : `${program}: ${line.trim()}`));
}

function entries(directory: string): string[] {
  return readdirSync(directory).map((name) => `${directory}/${name}`);
}

function programs(): string[] {
  const list = JSON.parse(execFileSync("bpftool", ["-j", "prog", "list"], { encoding: "utf8" })) as {
    id: number;
    name?: string;
  }[];
  return list.map(({ id, name }) => `program ${id} ${name ?? ""}`);
}

if (import.meta.main) {
  const [, , file = "", kind = "lab"] = process.argv;
  const smoke = new Smoke();
  if (kind === "nic") await (await import("./nic-smoke.ts")).nicSmoke(smoke);
  else await (await import("./lab-smoke.ts")).labSmoke(smoke);
  writeFileSync(file, JSON.stringify(smoke.checks));
}
