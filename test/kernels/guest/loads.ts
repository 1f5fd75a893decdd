// In a guest: what its kernel has, and what its verifier makes of every program. `loads.ts FILE` writes it as JSON.
import { writeFileSync } from "node:fs";
import { type Feature, features } from "../../../src/libbpf/mod.ts";
import { type ProgramReport, reportPrograms } from "../program-report.ts";

export interface LoadsReport {
  readonly features: readonly Feature[];
  readonly programs: readonly ProgramReport[];
}

if (import.meta.main) {
  const report: LoadsReport = { features: Object.values(features()), programs: reportPrograms() };
  writeFileSync(process.argv[2]!, JSON.stringify(report));
}
