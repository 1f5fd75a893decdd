// How answers look in a terminal: tables as kubectl's, ages, port lists, sizes. Pure.

/** Aligned columns, three spaces apart, no trailing space; control characters of foreign names are shown as "?". */
export function table(header: readonly string[], rows: readonly (readonly string[])[], indent = ""): string {
  const lines = [header, ...rows].map((row) => row.map(printable));
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) => `${indent}${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("   ")}`.trimEnd())
    .map((line) => `${line}\n`)
    .join("");
}

/** Text that cannot move the cursor or colour the terminal. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}

/** A notice's message without the object and file that stand beside it, behind its field. */
export function saidOnce(notice: Readonly<Record<"file" | "object" | "field" | "message", string>>): string {
  const { file, object, field } = notice;
  let text = notice.message;
  for (const known of [file, object])
    if (known !== "" && text.startsWith(`${known}: `)) text = text.slice(known.length + 2);
  return field === "" || text.includes(field) ? text : `${field}: ${text}`;
}

/** An age as kubectl writes it: 45s, 3m20s, 12m, 5h10m, 2d3h, 40d, 3y12d. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  const both = (big: number, unit: string, small: number, smallUnit: string) =>
    small === 0 ? `${big}${unit}` : `${big}${unit}${small}${smallUnit}`;
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return both(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return `${minutes}m`;
  if (hours < 8) return both(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  if (days < 8) return both(days, "d", hours % 24, "h");
  if (days < 730) return `${days}d`;
  if (days < 2920) return both(Math.floor(days / 365), "y", days % 365, "d");
  return `${Math.floor(days / 365)}y`;
}

/** 80:30001/TCP,53/UDP; "<none>" when empty. */
export function portList(ports: readonly { port: number; nodePort: number; protocol: string }[]): string {
  if (ports.length === 0) return "<none>";
  return ports
    .map(({ port, nodePort, protocol }) => `${port}${nodePort === 0 ? "" : `:${nodePort}`}/${protocol}`)
    .join(",");
}

/** 512 B, 1.5 KiB, 20 MiB. */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
