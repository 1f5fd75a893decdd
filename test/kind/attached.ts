// Runs in a node's network: prints one line for each program on its devices, by tcx, clsact or XDP. The machine's bpftool may be older
// than tcx.
import { execFileSync } from "node:child_process";
import { queryTcx } from "../../src/libbpf/mod.ts";

interface Device {
  readonly ifindex: number;
  readonly ifname: string;
  readonly xdp?: object;
}

const json = (...command: string[]): unknown => {
  const said = execFileSync(command[0]!, command.slice(1), { encoding: "utf8" }).trim();
  return said === "" ? [] : JSON.parse(said);
};

for (const { ifindex, ifname, xdp } of json("ip", "-j", "link", "show") as Device[]) {
  if (xdp !== undefined) process.stdout.write(`XDP program on ${ifname}\n`);
  for (const direction of ["ingress", "egress"] as const) {
    const found = queryTcx(ifindex, direction);
    if (found.length > 0) process.stdout.write(`${found.length} ${direction} programs on ${ifname}\n`);
    const filters = json("tc", "-j", "filter", "show", "dev", ifname, direction) as { kind?: string }[];
    if (filters.some(({ kind }) => kind === "bpf")) process.stdout.write(`${direction} filter on ${ifname}\n`);
  }
}
