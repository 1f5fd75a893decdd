// What happens at the moment, for whoever waits.

export type Progress = (step: string) => void;

/** Lines on standard error, each with the seconds since the start. */
export function progressOnStderr(): Progress {
  const start = performance.now();
  return (step) => {
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    process.stderr.write(`  ${seconds.padStart(5)} s  ${step}\n`);
  };
}
