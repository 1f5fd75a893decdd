// `millrace prepare` on a node's mounts and sysctls as they are: in a mount and a network namespace of its own.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";

const MAIN = resolve(import.meta.dirname, "../../src/main.ts");

let stateDir = "";
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "millrace-prepare-"));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

/** Runs a script in namespaces that end with it; "$@" prepares the node, and /sys/fs/bpf is no bpffs before. */
function inNamespaces(script: string, environment: NodeJS.ProcessEnv = {}) {
  const head = "set -eu; mount -t sysfs none /sys; mount -t tmpfs none /sys/fs/bpf;";
  const prepare = [process.execPath, MAIN, "prepare", `--state-dir=${stateDir}`];
  const unshare = ["--net", "--mount", "--propagation=private", "--", "sh", "-c", `${head} ${script}`, "sh"];
  return spawnSync("unshare", [...unshare, ...prepare], { encoding: "utf8", env: { ...process.env, ...environment } });
}

describeKernel("a node is prepared", () => {
  it("by a bpffs where what is mounted is seen elsewhere too, and by ports that nobody else gets", () => {
    const shown = 'stat -f -c %T /sys/fs/bpf; cat /proc/sys/net/ipv4/ip_local_reserved_ports; "$@"';
    const { status, stdout } = inNamespaces(
      `mount --make-shared /sys/fs/bpf; "$@" 2>&1 | grep -v nf_conntrack; ${shown}`,
    );
    expect([status, stdout.split("\n")]).toEqual([
      0,
      [
        "mounted a bpffs at /sys/fs/bpf",
        "reserved ports 49152-65535 in net.ipv4.ip_local_reserved_ports",
        "bpf_fs",
        "49152-65535",
        "nothing to do",
        "",
      ],
    ]);
  });

  it("not by a bpffs that would be the pod's own", () => {
    const inPod = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };
    const { status, stderr } = inNamespaces('"$@"', inPod);
    expect([status, stderr]).toEqual([3, expect.stringContaining("could not mount a bpffs at /sys/fs/bpf")]);
  });
});
