// A member of the cluster's LAN as a place to run programs in: a network namespace, for a node its mounts and its host name
// too, and a cgroup.
import { join } from "node:path";
import { inCgroup, makeCgroup } from "../../src/lab/cgroups.ts";
import { type RunOptions, type RunResult, runProgram } from "../../src/lab/shell.ts";
import { Component, type ComponentPlan } from "./component.ts";
import { type ClusterPaths, memberNamespacePath } from "./paths.ts";

export class Member {
  readonly name: string;
  readonly paths: ClusterPaths;

  constructor(paths: ClusterPaths, name: string) {
    this.paths = paths;
    this.name = name;
  }

  /** cgroup2 directory of everything that runs in it. */
  get cgroup(): string {
    return join(this.paths.cgroup, this.name);
  }

  /** Program and arguments that run `command` in it. */
  enter(command: readonly string[]): string[] {
    return ["nsenter", `--net=${memberNamespacePath(this.paths, this.name)}`, "--", ...command];
  }

  /** Runs a program of the machine in it, and collects what it says. */
  exec(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const cgroup = join(this.cgroup, "exec");
    makeCgroup(cgroup);
    const [file, ...args] = inCgroup(cgroup, this.enter(command));
    return runProgram(file, args, options);
  }

  /** A program that is kept running in it, called `name`. */
  component(name: string, plan: Pick<ComponentPlan, "command" | "environment">): Component {
    const full = `${this.name}-${name}`;
    return new Component({
      ...plan,
      name: `${name} of ${this.name}`,
      command: () => this.enter(plan.command()),
      cgroup: join(this.cgroup, name),
      log: join(this.paths.logs, `${full}.log`),
      pidFile: join(this.paths.pids, full),
    });
  }
}
