// Turning all translation off beside an agent, without one, across a restart and across a change of layout.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readBypass, setBypass } from "../../../src/datapath/bypass.ts";
import { FINGERPRINT, LAYOUT, SETTINGS } from "../../../src/datapath/layout.gen.ts";
import { type Loaded, removePins } from "../../../src/datapath/load.ts";
import { createMap, MapFlag, openPinnedMap } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { loadOnUse } from "./load-dataplane.ts";

const SIZES = { services: 64, frontends: 64, backends: 64, slots: 256, flows: 4096, openings: 4096 };
const OTHER = "0123456789abcdef";

describeKernel("bypass", () => {
  let pinDir: string;
  let stateDir: string;
  let loaded: Loaded | undefined;
  beforeEach(() => {
    stateDir = fs.mkdtempSync(path.join(os.tmpdir(), `millrace-bypass-${process.pid.toString(36)}-`));
    pinDir = `/sys/fs/bpf/${path.basename(stateDir)}`;
  });
  afterEach(() => {
    stop();
    if (fs.existsSync(pinDir)) removePins(pinDir);
    fs.rmSync(stateDir, { recursive: true, force: true });
  });

  const start = (): Loaded["dataplane"] => {
    loaded = loadOnUse({ pinDir, stateDir, mapSizes: SIZES, l3: false, xdp: false });
    return loaded.dataplane;
  };
  function stop(): void {
    loaded?.close();
    loaded = undefined;
  }
  const codeOf = (body: () => void): string => {
    try {
      body();
    } catch (error) {
      return (error as { code: string }).code;
    }
    return "";
  };

  it("says so where no agent has run", () => {
    expect(() => readBypass(pinDir)).toThrow("no agent has run with this --pin-dir");
    expect(codeOf(() => setBypass(pinDir, true))).toBe("not_found");
    expect(codeOf(() => setBypass("/sys/fs/bpf/../../../nowhere", true))).toBe("not_found");
  });

  it("is turned on and off beside an agent, whose settings leave it alone", () => {
    const dataplane = start();
    expect([dataplane.readBypass(), readBypass(pinDir)]).toEqual([false, false]);
    setBypass(pinDir, true);
    expect([dataplane.readBypass(), readBypass(pinDir)]).toEqual([true, true]);
    dataplane.writeSettings({ ...dataplane.readSettings(), bypass: 0n, hz: 300 });
    expect(dataplane.readSettings()).toMatchObject({ bypass: 1n, hz: 300 });
    dataplane.setBypass(false);
    expect(readBypass(pinDir)).toBe(false);
    dataplane.writeSettings({ ...dataplane.readSettings(), bypass: 1n });
    expect(readBypass(pinDir)).toBe(false);
  });

  it("outlives the agent, and is changed without one", () => {
    start().setBypass(true);
    stop();
    expect(readBypass(pinDir)).toBe(true);
    expect(start().readBypass()).toBe(true);
    stop();
    setBypass(pinDir, false);
    expect(start().readBypass()).toBe(false);
  });

  /** What is pinned becomes another build's. */
  function renameLayout(): void {
    stop();
    fs.renameSync(path.join(pinDir, `maps-${FINGERPRINT}`), path.join(pinDir, `maps-${OTHER}`));
    const layout = { format: 1, version: "0.0.0", layout: LAYOUT };
    fs.writeFileSync(path.join(stateDir, "layouts", `${OTHER}.json`), JSON.stringify(layout));
  }

  it("is found in the maps of another build by their own type information", () => {
    start();
    renameLayout();
    setBypass(pinDir, true);
    expect(readBypass(pinDir)).toBe(true);
    using map = openPinnedMap(path.join(pinDir, `maps-${OTHER}`, "settings"), "settings");
    expect(new BigUint64Array(map.mmap(false))[SETTINGS.bypass / 8]).toBe(1n);
  });

  it("outlives a change of layout", () => {
    start().setBypass(true);
    renameLayout();
    const dataplane = start();
    expect(loaded?.replacesLayout).toBe(true);
    expect(dataplane.readBypass()).toBe(true);
  });

  it("that comes between copying and switching is caught up with", () => {
    start();
    renameLayout();
    const dataplane = start();
    setBypass(pinDir, true);
    expect(dataplane.readBypass()).toBe(true);
    dataplane.setBypass(false);
    loaded!.removeOldLayouts();
    expect(dataplane.readBypass()).toBe(true);
  });

  it("is turned on wherever that can be, and says where it cannot", () => {
    const dataplane = start();
    const directory = path.join(pinDir, `maps-${OTHER}`);
    fs.mkdirSync(directory);
    using map = createMap({
      name: "settings",
      type: "array",
      keySize: 4,
      valueSize: 48,
      maxEntries: 1,
      flags: MapFlag.mmapable,
    });
    map.pin(path.join(directory, "settings"));
    expect(() => setBypass(pinDir, true)).toThrow(`maps-${OTHER} were made by a build that has no bypass`);
    expect(codeOf(() => readBypass(pinDir))).toBe("conflict");
    expect(dataplane.readBypass()).toBe(true);
    expect([...new BigUint64Array(map.mmap(false))]).toEqual([0n, 0n, 0n, 0n, 0n, 0n]);
  });
});
