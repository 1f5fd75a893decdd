// `millrace doctor` as people run it, on a machine of its own: what it finds when something is broken on purpose, with and without an
// agent, and that it changes nothing.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import type { Finding } from "../../src/agent/doctor/finding.ts";
import type { Report } from "../../src/agent/doctor/report.ts";
import { patience } from "../../src/lib/patience.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { MILLRACE, run, until } from "./traffic/test-lab.ts";
import { type RunOptions, TestMachine } from "./traffic/test-machine.ts";

const OBJECTS = `
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { clusterIP: 10.96.7.7, externalIPs: [203.0.113.7], selector: { app: web }, ports: [{ port: 80 }] }
`;

/**
 * A pod as far as mounts go: a root of its own over the machine's, with a cgroup namespace and its cgroup2, and with "host" the machine's
 * cgroups below /host. $1: an empty directory, $2: "host" or nothing; then the command.
 */
const POD = `set -e
top=$1; with=$2; shift 2
mount -t tmpfs tmpfs "$top"; mkdir "$top/upper" "$top/work" "$top/root"; root="$top/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$root"
for one in proc sys dev run; do mount --rbind "/$one" "$root/$one"; done
if [ "$with" = host ]; then mkdir -p "$root/host/sys/fs/cgroup"; mount --rbind /sys/fs/cgroup "$root/host/sys/fs/cgroup"; fi
umount -lR "$root/sys/fs/cgroup" 2>/dev/null || true
mkdir -p "$root/sys/fs/cgroup"; mount -t cgroup2 none "$root/sys/fs/cgroup"
exec chroot "$root" "$@"`;

// Programs are verified each time, which takes a second of an idle processor.
vi.setConfig({ testTimeout: patience(400_000) });

describeKernel("millrace doctor", () => {
  let machine: TestMachine;
  beforeAll(async () => {
    machine = await TestMachine.create(OBJECTS);
  });
  afterAll(() => machine.close());

  interface Said {
    readonly status: number;
    readonly report: Report;
    /** "level check: text", of what is not ok and of checks that are named. */
    lines(...checks: readonly string[]): string[];
  }

  /** `behind`: program and arguments in front of millrace, in the machine's network already. */
  async function doctor(
    flags: readonly string[] = [],
    { env = {}, within = [], behind = [] }: RunOptions & { readonly behind?: readonly string[] } = {},
  ): Promise<Said> {
    const [, ...own] = machine.runArgs(flags);
    const line = machine.command(["doctor", "-o", "json", ...own], within);
    const at = line.indexOf(MILLRACE);
    const [file = "", ...rest] = [...line.slice(0, at), ...behind, ...line.slice(at)];
    const ran = await run(file, rest, { env: { ...env }, timeoutMs: patience(240_000) });
    expect(ran.stderr).toBe("");
    const report = JSON.parse(ran.stdout) as Report;
    const lineOf = ({ level, check, says }: Finding): string => `${level} ${check}: ${says}`;
    return {
      status: ran.status,
      report,
      lines: (...checks) =>
        report.findings
          .filter(({ check, level }) => (checks.length === 0 ? level !== "ok" : checks.includes(check)))
          .map(lineOf),
    };
  }

  /** What a doctor might have touched. */
  function state(): Readonly<Record<string, string>> {
    const sysctls = ["net.ipv4.ip_local_reserved_ports", "net.ipv4.conf.up0.forwarding", "net.ipv4.conf.up0.rp_filter"];
    return {
      sysctls: machine.net.run("sysctl", ...sysctls),
      rules: machine.net.run("nft", "list", "ruleset"),
      links: machine.net.ip("-d link show"),
      pins: existsSync(machine.pinDir) ? readdirSync(machine.pinDir, { recursive: true }).sort().join() : "none",
      state: existsSync(machine.stateDir) ? readdirSync(machine.stateDir).sort().join() : "none",
      manifests: readFileSync(`${machine.manifests}/objects.yaml`, "utf8"),
    };
  }

  it("finds nothing wrong where nothing is, with every group looked at, and changes nothing", async () => {
    const before = state();
    const said = await doctor();
    expect(state()).toEqual(before);
    expect(
      said.lines(
        "machine.rights",
        "kernel.programs",
        "devices.uplinks",
        "devices.forwarding",
        "objects.read",
        "agent.status",
      ),
    ).toEqual([
      "ok machine.rights: root, with every capability that an agent needs",
      expect.stringMatching(/^ok kernel\.programs: all \d+ programs load, in /),
      "ok devices.uplinks: up0 is an uplink: it has 192.168.122.11 of this Node",
      "ok devices.forwarding: forwarding is on for IPv4",
      expect.stringMatching(/^ok objects\.read: read: [1-9]\d* Services?, \d+ endpoints?, 1 Node$/),
      `ok agent.status: no agent answers at ${machine.socket}`,
    ]);
    const groups = new Set(said.report.findings.map(({ group }) => group));
    expect([...groups]).toEqual([
      "machine",
      "kernel",
      "cgroup",
      "devices",
      "platform",
      "proxies",
      "firewall",
      "ranges",
      "objects",
      "agent",
    ]);
    expect(said.lines().filter((line) => line.startsWith("error"))).toEqual([]);
    expect([said.status, said.report.level]).toEqual([0, said.report.counts.warning > 0 ? "warning" : "ok"]);
  });

  it("tells of the objects what an agent would", async () => {
    const { lines } = await doctor();
    expect(lines("objects.notices")).toContainEqual(
      expect.stringMatching(/objects\.notices: external-ip[a-z-]*: Service default\/web: /),
    );
  });

  it("finds what was broken: forwarding, rules of kube-proxy, a firewall, a listener, programs of others", async () => {
    const { net } = machine;
    const script = "require('net').createServer().listen(30123, () => console.log('on'))";
    const listener = net.inside(() => spawn(process.execPath, ["-e", script]));
    const proxy = net.inside(() => spawn("sleep", ["600"], { argv0: "kube-proxy" }));
    try {
      net.sysctl("net.ipv4.conf.up0.forwarding", 0);
      net.run("nft", "add table ip nat; add chain ip nat KUBE-SERVICES; add chain ip nat KUBE-SVC-X");
      net.run("nft", "add table inet wall");
      net.run("nft", "add chain inet wall gate { type filter hook forward priority 0 ; policy drop ; }");
      await new Promise((resolve) => listener.stdout.once("data", resolve));
      const { status, lines } = await doctor();
      const found = lines();
      for (const expected of [
        /^error devices\.forwarding: forwarding is off: IPv4 on up0;/,
        /^warning proxies\.kube-proxy: a kube-proxy runs on this node:/,
        /^warning proxies\.rules: kube-proxy's rules are here: 2 chains of iptables$/,
        /^warning firewall\.forward: the nftables chain inet wall gate drops what it does not accept$/,
        /^warning ranges\.node-ports: processes listen on ports of the node port range: 30123\/TCP;/,
      ]) {
        expect(found).toContainEqual(expect.stringMatching(expected));
      }
      expect(status).toBe(1);
    } finally {
      listener.kill();
      proxy.kill();
      net.run("nft", "flush ruleset");
      net.sysctl("net.ipv4.conf.up0.forwarding", 1);
    }
  });

  it("names a private bpffs, a cgroup of one's own and missing rights before an agent meets them", async () => {
    const unmount = "while umount -l /sys/fs/bpf 2>/dev/null; do :; done";
    const within = ["unshare", "--mount", "sh", "-c", `${unmount}; exec "$@"`, "sh"];
    const pod = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };
    const private_ = await doctor([], { within, env: pod });
    expect(private_.lines("machine.bpffs")).toEqual([
      expect.stringMatching(
        /^error machine\.bpffs: no bpffs is mounted at \/sys\/fs\/bpf, and an agent would not mount one: /,
      ),
    ]);
    expect(private_.status).toBe(1);
    const bare = await doctor([], {
      behind: ["setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon", "--inh-caps=-all"],
    });
    expect(bare.lines("machine.rights")).toEqual([
      expect.stringMatching(/^error machine\.rights: the capabilities PERFMON and BPF are lacking/),
    ]);
  });

  it.each([
    [
      "that has the host's cgroups mounted finds them",
      "host",
      /^ok cgroup\.directory: \/host\/sys\/fs\/cgroup(\/unified)? is the root of all cgroups$/,
    ],
    [
      "that has not is told what to mount",
      "",
      /^error cgroup\.directory: \/sys\/fs\/cgroup is the root of this pod's cgroup namespace/,
    ],
  ])("in a pod, one %s", async (_name, host, expected) => {
    const top = mkdtempSync(join(tmpdir(), "millrace-pod-"));
    const cgroup = join(machine.cgroup, "pod");
    mkdirSync(cgroup);
    const into = ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', cgroup];
    const within = [...into, "unshare", "--mount", "--cgroup", "sh", "-c", POD, "sh", top, host];
    const env = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };
    try {
      const places = ["--manifests", machine.manifests, "--pin-dir", machine.pinDir, "--api-socket", machine.socket];
      const [file = "", ...rest] = machine.command(["doctor", "-o", "json", ...places], within);
      const ran = await run(file, rest, { env, timeoutMs: patience(240_000) });
      expect(ran.stderr).toBe("");
      const { findings } = JSON.parse(ran.stdout) as Report;
      const lineOf = (check: string): string =>
        findings
          .filter((one) => one.check === check)
          .map(({ level, says }) => `${level} ${check}: ${says}`)
          .join();
      expect(lineOf("cgroup.directory")).toMatch(expected);
      expect(lineOf("machine.bpffs")).toBe("ok machine.bpffs: the bpffs at /sys/fs/bpf is mounted into this pod");
      expect(lineOf("machine.state")).toMatch(/^warning machine\.state: \/var\/lib\/millrace is on overlay/);
    } finally {
      rmdirSync(top);
      await until("the cgroup to be empty", () => {
        try {
          rmdirSync(cgroup);
          return true;
        } catch {
          return undefined;
        }
      });
    }
  });

  it("goes on with the rest where a part cannot be had", async () => {
    const { lines, status } = await doctor(["--cgroup", machine.directory, "--devices", "up9"]);
    expect(lines("cgroup.directory", "devices.named", "kernel.jit").length).toBeGreaterThan(1);
    expect(lines()).toContainEqual(expect.stringMatching(/^error cgroup\.directory: .* is no cgroup2 directory/));
    expect(lines()).toContainEqual(expect.stringMatching(/^error devices\.named: no device is called up9/));
    expect(status).toBe(1);
  });

  it("without root says so once, and tells what it can", async () => {
    const [, ...own] = machine.runArgs();
    const asNobody = ["--reuid=65534", "--regid=65534", "--clear-groups", MILLRACE, "doctor", "-q", ...own];
    // Of the machine's own manifests: the directory of a test is root's.
    execFileSync("chmod", ["-R", "a+rX", machine.directory]);
    const { stdout, status } = await run("setpriv", asNobody);
    expect(stdout).toContain("warning rights: not root: programs, maps, rules and some processes cannot be looked at");
    expect(stdout).not.toContain("EPERM");
    expect([0, 1]).toContain(status);
  });

  it("asks the agent that runs, whose ports are no stranger's", async () => {
    const agent = machine.start();
    await agent.healthy();
    // The files of its state are the agent's to write meanwhile.
    const { state: _, ...before } = state();
    const { lines } = await doctor();
    expect(state()).toMatchObject(before);
    expect(lines("agent.status")).toEqual([
      expect.stringMatching(/^ok agent\.status: an agent \(\d+\.\d+\.\d+\) runs and is healthy$/),
    ]);
    expect(
      lines("ranges.ports", "ranges.snat-ports", "machine.bpffs", "proxies.programs", "proxies.kube-proxy"),
    ).toEqual([
      expect.stringMatching(/^ok machine\.bpffs: the bpffs at \/sys\/fs\/bpf is /),
      expect.stringMatching(/^ok proxies\.kube-proxy: /),
      "ok proxies.programs: no tc or XDP program of others is on our devices",
      expect.stringMatching(/^ok ranges\.ports: an agent has its ports: /),
      "ok ranges.snat-ports: source ports 49152-65535 are reserved",
    ]);
    await machine.millrace(["bypass", "on", "--pin-dir", machine.pinDir]);
    await until("the agent to see the bypass", async () => ((await machine.status()).bypass ? true : undefined));
    const bypassed = await doctor();
    expect(bypassed.lines("agent.status")).toEqual(["error agent.status: bypass is on: nothing is translated"]);
    expect(bypassed.status).toBe(1);
    await agent.stop();
    await machine.cleanup();
  });
});
