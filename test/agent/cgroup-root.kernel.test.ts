import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { cgroupPlace, cgroupProblem } from "../../src/agent/cgroup-root.ts";
import { isCgroup2 } from "../../src/libbpf/mod.ts";
import { temporaryCgroup } from "../kernel/libbpf/fixture.ts";
import { describeKernel } from "../kernel/require-kernel.ts";

const MODULE = resolve(import.meta.dirname, "../../src/agent/cgroup-root.ts");

describeKernel("the cgroup of the socket programs", () => {
  it("is right at the root of the hierarchy, and as a subtree that somebody chose", () => {
    using chosen = temporaryCgroup();
    const root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find(isCgroup2)!;
    expect([cgroupProblem(root), cgroupProblem(chosen.path)]).toEqual(["", ""]);
  });

  it.each([
    [
      "is named when it is the root of a container's cgroup namespace only",
      "",
      "is the root of this container's cgroup",
    ],
    ["is right at the root of a node that is a container itself: its pods are below", "kubelet.slice", "\n"],
  ])("%s", (_name, below, said) => {
    using inside = temporaryCgroup();
    if (below !== "") mkdirSync(join(inside.path, below));
    const mount = mkdtempSync(join(tmpdir(), "millrace-cgroup-"));
    const ask = `import(${JSON.stringify(MODULE)}).then((m) => console.log(m.cgroupProblem(${JSON.stringify(mount)})))`;
    const enter = 'echo $$ > "$1/cgroup.procs" && exec unshare --cgroup --mount sh -c "$2" sh "$3" "$4" "$5"';
    const look = 'mount -t cgroup2 none "$1" && exec "$2" -e "$3"';
    try {
      const ran = spawnSync("sh", ["-c", enter, "sh", inside.path, look, mount, process.execPath, ask], {
        encoding: "utf8",
      });
      expect(ran.stderr).toBe("");
      expect(ran.stdout).toContain(said === "\n" ? said : `${mount} ${said}`);
      if (said === "\n") expect(ran.stdout.trim()).toBe("");
    } finally {
      if (below !== "") rmdirSync(join(inside.path, below));
      rmSync(mount, { recursive: true });
    }
  });
});

it.each([
  ["the root of the hierarchy", { hasType: false, isParentCgroup2: false, below: [] }, "root"],
  ["a subtree that somebody chose", { hasType: true, isParentCgroup2: true, below: [] }, "chosen"],
  [
    "a kind node",
    { hasType: true, isParentCgroup2: false, below: ["init.scope", "kubelet", "system.slice"] },
    "machine",
  ],
  ["a node without systemd", { hasType: true, isParentCgroup2: false, below: ["cgroup.procs", "kubepods"] }, "machine"],
  ["a pod", { hasType: true, isParentCgroup2: false, below: ["cgroup.procs", "memory.max"] }, "pod"],
] as const)("%s is told by its files", (_name, facts, place) => expect(cgroupPlace(facts)).toBe(place));
