// What a piece of work costs: of the time that passed and the time of the processor the smaller, so that neither a busy machine nor
// another thread of this process counts.

/** Milliseconds that `run` took; they are printed. */
export function costOf(what: string, run: () => void): number {
  const cpu = process.cpuUsage();
  const began = performance.now();
  run();
  const passed = performance.now() - began;
  const { user, system } = process.cpuUsage(cpu);
  const ms = Math.min(passed, (user + system) / 1000);
  process.stderr.write(`${what}: ${ms.toFixed(2)} ms\n`);
  return ms;
}
