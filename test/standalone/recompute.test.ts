// Everything is worked out anew at each change: that must stay cheap for as many Services as a cluster may have.
import { expect, test } from "vitest";
import { patience } from "../../src/lib/patience.ts";
import type { RawDocument } from "../../src/wire/kubernetes.ts";
import { cluster, document, service, slice } from "./build.ts";

const SERVICES = 10_000;
// Of this thread's processor time, as others use this machine too: 50 ms on a quiet one.
const MOST_MS = patience(500);

function spentMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

const serviceOf = (i: number, port = 80): RawDocument =>
  document(service(`s${i}`, { selector: undefined, ports: [{ port }] }), `${i}.json`, 0);
const sliceOf = (i: number, port = 80): RawDocument => {
  const endpoints = Array.from({ length: 10 }, (_, j) => {
    const n = i * 10 + j;
    return { addresses: [`10.${200 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`] };
  });
  return document(slice(`s${i}-x`, `s${i}`, { endpoints, ports: [{ name: "", port }] }), `${i}.json`, 1);
};

test(
  `a change among ${SERVICES} Services is worked out fast, and only what it changes is told`,
  async () => {
    const one = await cluster();
    const documents = Array.from({ length: SERVICES }, (_, i) => [serviceOf(i), sliceOf(i)]).flat();
    expect((await one.reconcile(documents)).changed.size).toBe(2 * SERVICES);
    const times: number[] = [];
    for (let i = 0; i < 9; i++) {
      const isService = i % 2 === 0;
      const at = 2 * (500 + i) + (isService ? 0 : 1);
      documents[at] = isService ? serviceOf(500 + i, 81) : sliceOf(500 + i, 81);
      const began = spentMs();
      const { changed } = await one.reconcile([...documents]);
      times.push(spentMs() - began);
      expect([...changed.keys()]).toEqual([
        isService ? `Service default/s${500 + i}` : `EndpointSlice default/s${500 + i}-x`,
      ]);
    }
    times.sort((a, b) => a - b);
    process.stdout.write(
      `a change among ${SERVICES} Services: median ${times[4]!.toFixed(0)} ms, least ${times[0]!.toFixed(0)} ms\n`,
    );
    expect(times[4]).toBeLessThan(MOST_MS);
  },
  patience(120_000),
);
