// Writes the dashboards of deploy/grafana/ (`make dashboards`). `make check` says when they are out of date.
import { mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { layer2 } from "./dashboards/layer2.ts";
import { overview } from "./dashboards/overview.ts";
import { service } from "./dashboards/service.ts";

const MADE: Readonly<Record<string, () => unknown>> = {
  "deploy/grafana/millrace-overview.json": overview,
  "deploy/grafana/millrace-service.json": service,
  "deploy/grafana/millrace-layer2.json": layer2,
};

export const DASHBOARDS: readonly string[] = Object.keys(MADE);

if (import.meta.main) {
  const root = resolve(import.meta.dirname, "..");
  mkdirSync(resolve(root, "deploy/grafana"), { recursive: true });
  for (const [file, make] of Object.entries(MADE))
    writeFileSync(resolve(root, file), `${JSON.stringify(make(), null, 2)}\n`);
}
