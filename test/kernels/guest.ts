// A guest: one of Debian's kernels in QEMU without KVM, whose root is this machine's own, read-only, under a tmpfs. It ends with
// this process, however that ends.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Failure } from "../../src/lib/errors.ts";
import type { KernelFiles } from "./kernel-files.ts";
import { GUEST_SCRIPTS, kernelPaths, REPOSITORY } from "./paths.ts";

export interface GuestRun {
  /** undefined when it was not done in time. */
  readonly status: number | undefined;
  readonly output: string;
  readonly seconds: number;
}

const BOOT_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 200;
/** How much slower than a machine of its own a guest may be before that is a failure. */
const SLOWNESS = 20;
/** What its jobs have in their environment. */
const ENVIRONMENT = {
  MILLRACE_SLOW: String(SLOWNESS),
  MILLRACE_THIN: "1",
  REQUIRE_KERNEL: "1",
  CI: "true",
  NO_COLOR: "1",
  NODE_COMPILE_CACHE: "/job/compile-cache",
};

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export class Guest {
  readonly name: string;
  /** The shared folder, as this machine has it; /job in the guest. */
  readonly job: string;
  readonly #child: ChildProcess;
  #ended = false;
  #stuck = false;
  #jobs = 0;

  private constructor(name: string, job: string, child: ChildProcess) {
    this.name = name;
    this.job = job;
    this.#child = child;
    running.add(child);
    child.once("exit", () => {
      this.#ended = true;
      running.delete(child);
    });
  }

  /** Boots it and waits until it takes commands. Two NICs are plugged into one hub. @throws Failure "machine" */
  static async start(files: KernelFiles): Promise<Guest> {
    const { job } = kernelPaths(files.name);
    for (const file of ["ready", "stop", "status.new", "console"]) rmSync(join(job, file), { force: true });
    mkdirSync(join(job, "compile-cache"), { recursive: true });
    for (let n = 1; existsSync(join(job, `${n}.sh`)); n++) {
      for (const end of ["sh", "out", "status"]) rmSync(join(job, `${n}.${end}`), { force: true });
    }
    const log = openSync(join(job, "qemu.log"), "w");
    // Whatever becomes of this process, the kernel ends QEMU with it.
    const command = ["--pdeathsig", "KILL", "nice", "-n", "10", "qemu-system-x86_64", ...qemuArguments(files, job)];
    const child = spawn("setpriv", command, { stdio: ["ignore", log, log] });
    closeSync(log);
    const guest = new Guest(files.name, job, child);
    try {
      await guest.#waitFor("ready", BOOT_TIMEOUT_MS);
    } catch (error) {
      await guest.stop();
      throw error;
    }
    return guest;
  }

  /** Runs a command of bash in the project's folder, as root. */
  async run(command: string, timeoutMs: number): Promise<GuestRun> {
    const n = ++this.#jobs;
    const exports = Object.entries(ENVIRONMENT).map(([name, value]) => `export ${name}=${value}`);
    const script = [
      "set -o pipefail",
      ...exports,
      `export PATH=${REPOSITORY}/node_modules/.bin:$PATH`,
      `cd ${REPOSITORY}`,
      command,
    ];
    writeFileSync(join(this.job, ".next"), `${script.join("\n")}\n`);
    renameSync(join(this.job, ".next"), join(this.job, `${n}.sh`));
    const began = performance.now();
    const done = await this.#waitFor(`${n}.status`, timeoutMs).then(
      () => true,
      (error: unknown) => {
        if (this.#ended) throw error;
        return false;
      },
    );
    this.#stuck = !done;
    const seconds = (performance.now() - began) / 1000;
    const status = done ? Number(this.#read(`${n}.status`)) : undefined;
    return { status, output: this.#read(`${n}.out`), seconds };
  }

  /** It still runs, and is not busy with a command that was not done in time. */
  get isUsable(): boolean {
    return !this.#ended && !this.#stuck;
  }

  /** Lines of the guest's console in which its kernel complains of a defect of its own, or of us. */
  complaints(): string[] {
    return this.#read("console")
      .split("\n")
      .filter((line) => /\bBUG:|\bOops\b|Kernel panic|WARNING: CPU|general protection fault|soft lockup/.test(line));
  }

  /** Powers it off; kills it when that takes too long. */
  async stop(): Promise<void> {
    writeFileSync(join(this.job, "stop"), "");
    const deadline = Date.now() + (existsSync(join(this.job, "ready")) && this.isUsable ? STOP_TIMEOUT_MS : 0);
    while (!this.#ended && Date.now() < deadline) await delay(POLL_MS);
    if (!this.#ended) this.#child.kill("SIGKILL");
    while (!this.#ended) await delay(10);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #read(file: string): string {
    const path = join(this.job, file);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  async #waitFor(file: string, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!existsSync(join(this.job, file))) {
      if (this.#ended || Date.now() > deadline) {
        const words = `${this.#read("qemu.log")}\n${this.#read("console")}`.trim().split("\n").slice(-4).join("; ");
        const what = this.#ended ? "ended" : `did not get to ${file} within ${timeoutMs / 1000} s`;
        throw new Failure("machine", this.name, `the guest ${this.name} ${what}: ${words}`);
      }
      await delay(POLL_MS);
    }
  }
}

function qemuArguments({ image, initramfs, modules }: KernelFiles, job: string): string[] {
  const init = `millrace.init=${join(GUEST_SCRIPTS, "guest-init.sh")} millrace.modules=${modules}`;
  // Small tables of sockets: whoever lists sockets walks through all of them.
  const tables = "thash_entries=4096 uhash_entries=1024";
  const append = `console=ttyS0 panic=-1 loglevel=4 random.trust_cpu=on mitigations=off nokaslr tsc=reliable ${tables} ${init}`;
  const nic = (name: string, last: string): string[] => [
    ...["-netdev", `hubport,id=${name},hubid=1`],
    ...["-device", `virtio-net-pci,netdev=${name},mac=52:54:00:00:00:${last},romfile=`],
  ];
  return [
    ...["-nodefaults", "-no-reboot", "-display", "none", "-machine", "q35"],
    ...["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max", "-smp", "2", "-m", "4G"],
    ...["-kernel", image, "-initrd", initramfs, "-append", append, "-serial", `file:${join(job, "console")}`],
    ...["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"],
    ...["-virtfs", `local,path=${job},mount_tag=job,security_model=none`],
    ...nic("a", "0a"),
    ...nic("b", "0b"),
  ];
}
