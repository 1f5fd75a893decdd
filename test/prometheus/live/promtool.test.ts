// What promtool says of the rules as they are, and of the examples of docs/monitoring.md.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { run } from "../../lab/traffic/test-lab.ts";
import { ROOT, RULES_FILE } from "../rules-file.ts";
import { scaledRules } from "../scaled-rules.ts";

const promtool = (...args: string[]): ReturnType<typeof run> => run("promtool", args);

async function inFile<T>(text: string, look: (path: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "millrace-promtool-"));
  try {
    writeFileSync(join(directory, "file.yaml"), text);
    return await look(join(directory, "file.yaml"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

it("the rules are well formed (promtool check rules)", async () => {
  const { status, stdout, stderr } = await promtool("check", "rules", RULES_FILE);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toMatch(/SUCCESS: \d\d rules found/);
});

it("with their durations divided they are too", async () => {
  const scaled = scaledRules(readFileSync(RULES_FILE, "utf8"), 15);
  const { status, stdout } = await inFile(scaled, (path) => promtool("check", "rules", path));
  expect(status, stdout).toBe(0);
});

it("each fires when it ought to, and else not (promtool test rules)", async () => {
  const { status, stdout, stderr } = await promtool("test", "rules", join(ROOT, "test/prometheus/rules.promtool.yaml"));
  expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain("SUCCESS");
});

it("the scrape configuration of docs/monitoring.md is one (promtool check config)", async () => {
  const page = readFileSync(join(ROOT, "docs/monitoring.md"), "utf8");
  const [, config = ""] = /^```yaml\n(scrape_configs:[\s\S]*?)^```$/m.exec(page) ?? [];
  // Debian builds Prometheus without Kubernetes: whom to scrape is told otherwise here.
  const { scrape_configs: jobs } = parse(config) as { scrape_configs: Record<string, unknown>[] };
  expect(jobs.map(({ job_name: name }) => name)).toEqual(["kube-proxy", "millrace-controller"]);
  for (const job of jobs) {
    expect(job["kubernetes_sd_configs"]).toBeDefined();
    delete job["kubernetes_sd_configs"];
    job["static_configs"] = [{ targets: ["127.0.0.1:10249"] }];
  }
  const { status, stdout, stderr } = await inFile(stringify({ scrape_configs: jobs }), (path) =>
    promtool("check", "config", path),
  );
  expect(status, stdout + stderr).toBe(0);
});
