// What client_golang tells of a process and prom-client does not, by its names: of Linux' /proc.
import { readFileSync } from "node:fs";
import { Counter, Gauge, type Registry } from "prom-client";

/** Adds them to a registry. `root`: of /proc. */
export function collectProcessMetrics(registry: Registry, root = "/"): void {
  const registers = [registry];
  const traffic = (name: string, help: string, field: string): Counter =>
    new Counter({
      ...{ name, help, registers },
      collect() {
        this.reset();
        this.inc(ipCounter(textOf(`${root}proc/self/net/netstat`), field));
      },
    });
  traffic(
    "process_network_receive_bytes_total",
    "Bytes that came into the network namespace of the process by IP.",
    "InOctets",
  );
  traffic(
    "process_network_transmit_bytes_total",
    "Bytes that left the network namespace of the process by IP.",
    "OutOctets",
  );
  new Gauge({
    name: "process_virtual_memory_max_bytes",
    help: "Virtual memory that the process may have, in bytes; 18446744073709552000 where nothing bounds it.",
    registers,
    collect() {
      this.set(addressSpaceLimit(textOf(`${root}proc/self/limits`)));
    },
  });
}

/** 0 where the file cannot be read. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** A field of the group IpExt in the text of /proc/net/netstat: a line of names, then one of values. 0: there is none. */
export function ipCounter(netstat: string, field: string): number {
  const [names = [], values = []] = netstat
    .split("\n")
    .filter((line) => line.startsWith("IpExt:"))
    .map((line) => line.split(" "));
  return Number(values[names.indexOf(field)] ?? 0);
}

/** RLIMIT_AS of the text of /proc/self/limits, in bytes. */
export function addressSpaceLimit(limits: string): number {
  const soft = /^Max address space\s+(\S+)/m.exec(limits)?.[1] ?? "unlimited";
  return soft === "unlimited" ? 2 ** 64 : Number(soft);
}
