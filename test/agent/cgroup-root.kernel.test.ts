import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { cgroupProblem } from "../../src/agent/cgroup-root.ts";
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

  it("is named when it is the root of a cgroup namespace only", () => {
    using inside = temporaryCgroup();
    const mount = mkdtempSync(join(tmpdir(), "millrace-cgroup-"));
    const ask = `import(${JSON.stringify(MODULE)}).then((m) => console.log(m.cgroupProblem(${JSON.stringify(mount)})))`;
    const enter = 'echo $$ > "$1/cgroup.procs" && exec unshare --cgroup --mount sh -c "$2" sh "$3" "$4" "$5"';
    const look = 'mount -t cgroup2 none "$1" && exec "$2" -e "$3"';
    try {
      const ran = spawnSync("sh", ["-c", enter, "sh", inside.path, look, mount, process.execPath, ask], {
        encoding: "utf8",
      });
      expect(ran.stderr).toBe("");
      expect(ran.stdout).toContain(`${mount} is the root of a cgroup namespace, not of the node`);
    } finally {
      rmSync(mount, { recursive: true });
    }
  });
});
