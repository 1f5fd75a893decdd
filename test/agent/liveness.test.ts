// What an agent tells its kernel of who may ask it, by its options and its secret, and what it says when nobody can.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createLiveness } from "../../src/agent/liveness.ts";
import { createTimers } from "../../src/agent/timers.ts";
import { nodeIdOf } from "../../src/l2/liveness-message.ts";

const KEY = "000102030405060708090a0b0c0d0e0f";
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-liveness-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function bench(
  given: { readonly port?: number; readonly secret?: string; readonly manifests?: readonly string[] } = {},
) {
  const said: string[] = [];
  const timers = createTimers((error) => said.push(String(error)));
  const liveness = {
    identify: ({ nodeId }: { nodeId: string }) => void said.push(`identify ${nodeId}`),
    listen: (port: number, keys: readonly Uint8Array[]) =>
      void said.push(`listen ${port} ${keys.map((key) => Buffer.from(key).toString("hex")).join()}`),
    setMacs: (macs: readonly string[]) => void said.push(`macs ${macs.join()}`),
    renew: (_: bigint, { isSound }: { isSound: boolean }) => void said.push(`renew ${isSound}`),
  };
  const options = {
    nodeName: "node1",
    livenessPort: given.port ?? 7948,
    announcerSecret: given.secret ?? directory,
    manifests: given.manifests ?? [],
  };
  const made = createLiveness(options, { liveness } as never, timers);
  const stop = (): void => {
    timers.stop();
    made.stop();
  };
  return { made, said, stop };
}

describe("a node's liveness", () => {
  test("is answered for as soon as the secret was read, and says who it is before", async () => {
    writeFileSync(join(directory, "current"), KEY);
    const { made, said, stop } = bench();
    expect(said).toEqual([`identify ${nodeIdOf("node1")}`]);
    // That there is no key is not known before: nothing that is announced is given up for want of one.
    expect(made.isOn()).toBe(true);
    await vi.waitFor(() => expect(said).toContain(`listen 7948 ${KEY}`));
    expect(made.isOn()).toBe(true);
    made.renew({ sound: true, renews: true });
    expect(said.at(-1)).toBe("renew true");
    expect(made.notices(true)).toEqual([]);
    stop();
  });

  test("is not taken from those that ask when the secret cannot be read: what an agent before left goes on", async () => {
    rmSync(directory, { recursive: true });
    const { made, said, stop } = bench();
    await vi.waitFor(() => expect(made.notices(true)).toHaveLength(2));
    expect(made.isOn()).toBe(false);
    expect(said).toEqual([`identify ${nodeIdOf("node1")}`]);
    expect(made.notices(true).map(({ reason }) => reason)).toEqual(["announcer-secret", "no-liveness"]);
    // It asks nobody: others are not to rely on what its kernel answers by those keys.
    made.renew({ sound: true, renews: true });
    expect(said.at(-1)).toBe("renew false");
    stop();
  });

  test.each([
    ["port 0", { port: 0 }, "--liveness-port is 0"],
    ["no directory", { secret: "" }, "--announcer-secret names no directory"],
  ])("with %s is off in the kernel too, which is news where addresses are announced", (_, given, why) => {
    const { made, said, stop } = bench(given);
    expect(said).toContain("listen 0 ");
    expect(made.isOn()).toBe(false);
    expect(made.notices(true)[0]?.message).toContain(why);
    expect(made.notices(false)).toEqual([]);
    stop();
  });

  test("needs no secret on a machine of its own", () => {
    const { made, stop } = bench({ secret: "", manifests: ["/etc/manifests"] });
    expect(made.notices(true)).toEqual([]);
    stop();
  });

  test("is renewed with the MACs that its uplinks have, each once", () => {
    const { made, said, stop } = bench();
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    made.setMacs([mac, mac, new Uint8Array(6), Uint8Array.of(2, 0, 0, 0, 0, 2)]);
    made.renew({ sound: false, renews: false });
    expect(said.slice(-2)).toEqual(["macs 02:00:00:00:00:01,02:00:00:00:00:02", "renew false"]);
    stop();
  });
});
