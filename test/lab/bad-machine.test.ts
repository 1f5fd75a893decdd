// What the agent says of a machine that lacks something, or that is taken: one sentence on standard error, with what to do,
// and the exit status that belongs to it.
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { FINGERPRINT } from "../../src/datapath/layout.gen.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { MILLRACE, run, until } from "./traffic/test-lab.ts";
import { type RunOptions, sentenceOf, TestMachine } from "./traffic/test-machine.ts";

const MACHINE = 3;
const CONFLICT = 4;
const UNMOUNT = "while umount -l /sys/fs/bpf 2>/dev/null; do :; done";
/** Mounts of its own, as a container has them. */
const WITHOUT_BPFFS = ["unshare", "--mount", "sh", "-c", `${UNMOUNT}; exec "$@"`, "sh"];
/** The same, where others see what is mounted: as in a container whose volume has mountPropagation Bidirectional. */
const SHARED_WITHOUT_BPFFS = [
  "unshare",
  "--mount",
  "sh",
  "-c",
  `${UNMOUNT}; mount --make-shared /sys; exec "$@"`,
  "sh",
];
const POD = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };
const WITHOUT_CGROUP2 = [
  "unshare",
  "--mount",
  "sh",
  "-c",
  `grep ' cgroup2 ' /proc/self/mounts | cut -d' ' -f2 | while read -r m; do umount -l "$m"; done; exec "$@"`,
  "sh",
];

describeKernel("a machine that lacks something", () => {
  let machine: TestMachine;

  beforeEach(async () => {
    machine = await TestMachine.create();
  });

  afterEach(() => machine.close());

  /** What the agent says that ends by itself. */
  const refusal = async (options: RunOptions = {}) => {
    const agent = machine.start(options);
    const timer = setTimeout(() => agent.child.kill("SIGKILL"), 20_000);
    return sentenceOf(await agent.ended.finally(() => clearTimeout(timer)));
  };

  it("says that it needs root", async () => {
    const asNobody = ["--reuid=65534", "--regid=65534", "--clear-groups", MILLRACE];
    for (const args of [["run", "--manifests", "/"], ["cleanup"], ["lab", "up"]]) {
      const said = sentenceOf(await run("setpriv", [...asNobody, ...args]));
      expect(said).toEqual({
        status: MACHINE,
        sentences: [expect.stringMatching(/^millrace: could not .*root.*; try sudo$/)],
      });
    }
  });

  it.each([
    [
      "in a pod",
      POD,
      /^millrace: could not mount a bpffs at \/sys\/fs\/bpf: .*go with the pod; mount the host's into it: .*Bidirectional/,
    ],
    [
      "in another container",
      {},
      /^millrace: could not mount a bpffs at \/sys\/fs\/bpf: .*alone, and all pins would go with it; mount it on the host/,
    ],
  ])("refuses to mount a bpffs that would end with it, %s", async (_name, env, sentence) => {
    expect(await refusal({ within: WITHOUT_BPFFS, env })).toEqual({
      status: MACHINE,
      sentences: [expect.stringMatching(sentence)],
    });
  });

  it.each([
    ["a machine", {}],
    ["a pod that may", POD],
  ])("mounts a bpffs where there is none and others see it, on %s", async (_name, env) => {
    const agent = machine.start({ within: SHARED_WITHOUT_BPFFS, env });
    await agent.healthy();
    const mounts = readFileSync(`/proc/${agent.child.pid}/mounts`, "utf8").split("\n");
    expect(mounts.filter((line) => / \/sys\/fs\/bpf bpf /.test(line))).toHaveLength(1);
    expect((await agent.stop()).status).toBe(0);
  });

  it("refuses a pin directory that no bpffs can be mounted for", async () => {
    const pins = join(machine.directory, "pins");
    expect(await refusal({ flags: ["--pin-dir", pins] })).toEqual({
      status: MACHINE,
      sentences: [
        `millrace: could not pin to ${pins}: it is on no bpffs; mount one there, or use a directory below /sys/fs/bpf`,
      ],
    });
  });

  it("refuses a cgroup directory that is none of cgroup2", async () => {
    expect(await refusal({ flags: ["--cgroup", machine.directory] })).toEqual({
      status: MACHINE,
      sentences: [
        expect.stringMatching(
          /^millrace: could not use .* for socket programs: it is no cgroup2 directory; mount one \(.*\) or name it with --cgroup$/,
        ),
      ],
    });
  });

  it("says how to mount cgroup2 where there is none", async () => {
    const ran = await machine.millrace(["run", "--manifests", machine.manifests], { within: WITHOUT_CGROUP2 });
    expect(sentenceOf(ran)).toEqual({
      status: MACHINE,
      sentences: [
        expect.stringMatching(
          /^millrace: could not find a cgroup2 mount: mount it \(.*\), or name a directory of it with --cgroup/,
        ),
      ],
    });
  });

  it("goes on without what newer kernels have, and tells in its status what it does instead", async () => {
    const agent = machine.start({ env: { MILLRACE_WITHOUT: "tcx,set_retval,csum_ipv6,batch,membarrier,ct_lookup" } });
    const { degraded, attach } = await agent.healthy();
    expect(attach).toBe("clsact");
    expect(degraded.map(({ feature }) => feature).sort()).toEqual([
      "batch",
      "csum_ipv6",
      "ct_lookup",
      "membarrier",
      "set_retval",
      "tcx",
    ]);
    for (const { feature, needs, instead } of degraded) {
      expect(needs, feature).toMatch(/^\d+\.\d+$/);
      expect(instead, feature).not.toBe("");
    }
    const said = await machine.millrace(["status", "--socket", machine.socket]);
    expect(said.stdout).toMatch(/tcx.*6\.6.*clsact/);
    expect((await agent.stop()).status).toBe(0);
    expect((await machine.cleanup()).status).toBe(0);
  });

  for (const feature of ["mmap_array", "ktime_boot", "cgroup_link"]) {
    it(`refuses a kernel without ${feature}`, async () => {
      expect(await refusal({ env: { MILLRACE_WITHOUT: feature } })).toEqual({
        status: MACHINE,
        sentences: [expect.stringMatching(new RegExp(`^millrace: could not .*${feature}.*Linux 5\\.\\d+`))],
      });
      expect((await machine.cleanup()).status).toBe(0);
    });
  }

  it("starts where what it had saved is damaged, and writes it anew", async () => {
    const layout = join("layouts", `${FINGERPRINT}.json`);
    mkdirSync(join(machine.stateDir, "layouts"), { recursive: true });
    for (const name of ["reserved-ports.json", "known-nodes.json", "clsact-qdiscs.json", layout])
      writeFileSync(join(machine.stateDir, name), "");
    const agent = machine.start();
    await agent.healthy();
    await until("the nodes to be remembered", async () =>
      readFileSync(join(machine.stateDir, "known-nodes.json"), "utf8").includes("192.168.122.11") ? true : undefined,
    );
    expect(JSON.parse(readFileSync(join(machine.stateDir, layout), "utf8"))).toMatchObject({ format: 1 });
    expect((await agent.stop()).status).toBe(0);
    expect((await machine.cleanup()).status).toBe(0);
  });

  it("is not held up by a firewall's program that hangs, and ends at once when it is told to", async () => {
    const programs = join(machine.directory, "programs");
    mkdirSync(programs);
    for (const name of ["nft", "iptables", "ip6tables"])
      writeFileSync(join(programs, name), "#!/bin/sh\nexec sleep 1000\n", { mode: 0o755 });
    const agent = machine.start({ env: { PATH: `${programs}:${process.env["PATH"]}` } });
    await agent.healthy();
    const began = performance.now();
    expect((await agent.stop()).status).toBe(0);
    expect(performance.now() - began).toBeLessThan(9_000);
    expect((await machine.cleanup()).status).toBe(0);
  });

  it("refuses maps of a layout that it does not know, and starts after cleanup", async () => {
    mkdirSync(join(machine.pinDir, "maps-0123456789abcdef"), { recursive: true });
    const remedy = `run 'millrace cleanup --pin-dir ${machine.pinDir}' to start anew`;
    expect(await refusal()).toEqual({
      status: CONFLICT,
      sentences: [
        `millrace: could not take over the maps in ${machine.pinDir}: their layout 0123456789abcdef is not known here, perhaps of a newer build; ${remedy}`,
      ],
    });
    expect((await machine.cleanup()).status).toBe(0);
    const agent = machine.start();
    await agent.healthy();
    await agent.stop();
  });

  it("refuses maps that a newer version made", async () => {
    const fingerprint = "fedcba9876543210";
    mkdirSync(join(machine.pinDir, `maps-${fingerprint}`), { recursive: true });
    mkdirSync(join(machine.stateDir, "layouts"), { recursive: true });
    const layout = join(machine.stateDir, "layouts", `${fingerprint}.json`);
    writeFileSync(
      layout,
      JSON.stringify({ format: 99, version: "9.8.7", layout: { structs: {}, enums: {}, maps: {} } }),
    );
    expect(await refusal()).toEqual({
      status: CONFLICT,
      sentences: [
        `millrace: could not take over the maps in ${machine.pinDir}: they were made by the newer version 9.8.7; start that version, or run 'millrace cleanup --pin-dir ${machine.pinDir}' to start anew`,
      ],
    });
    rmdirSync(join(machine.pinDir, `maps-${fingerprint}`));
  });

  it("refuses a second agent on the same pin directory, and the first goes on", async () => {
    const first = machine.start();
    await first.healthy();
    expect(await refusal({ flags: ["--api-socket", join(machine.directory, "other", "api.sock")] })).toEqual({
      status: CONFLICT,
      sentences: [
        expect.stringMatching(
          `^millrace: could not start: another agent \\(process \\d+\\) uses ${machine.pinDir}; stop it, or give this one another --pin-dir$`,
        ),
      ],
    });
    await first.healthy();
    expect((await first.stop()).status).toBe(0);
  });
});
