// Maps of a build that left no description: they are refused by name, or left behind with their flows where that was asked.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { removePins } from "../../../src/datapath/load.ts";
import { createMap } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { loadDataplane } from "./load-dataplane.ts";

const SIZES = { services: 64, frontends: 64, backends: 64, slots: 256, flows: 4096, openings: 4096 };
const FINGERPRINT = "0123456789abcdef";

describeKernel("maps of a layout that nothing describes", () => {
  let stateDir = "";
  let pinDir = "";
  const options = () => ({ pinDir, stateDir, mapSizes: SIZES, l3: false, xdp: false });

  beforeAll(() => {
    stateDir = fs.mkdtempSync(path.join(os.tmpdir(), `millrace-left-${process.pid.toString(36)}-`));
    pinDir = `/sys/fs/bpf/${path.basename(stateDir)}`;
    fs.mkdirSync(path.join(pinDir, `maps-${FINGERPRINT}`), { recursive: true });
    using map = createMap({ name: "tcp_flows", type: "hash", keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
    map.pin(path.join(pinDir, `maps-${FINGERPRINT}`, "tcp_flows"));
  });
  afterAll(() => {
    removePins(pinDir);
    fs.rmSync(stateDir, { recursive: true, force: true });
  });
  const layouts = (): string[] => fs.readdirSync(pinDir).filter((name) => name.startsWith("maps-"));

  it("are refused where they may be somebody's", () => {
    expect(() => loadDataplane(options())).toThrow(/layout 0123456789abcdef is not known here/);
    expect(layouts()).toEqual([`maps-${FINGERPRINT}`]);
  });

  it("are refused everywhere when a newer version says that they are its own", () => {
    fs.mkdirSync(path.join(stateDir, "layouts"));
    const file = path.join(stateDir, "layouts", `${FINGERPRINT}.json`);
    fs.writeFileSync(file, JSON.stringify({ format: 2, version: "9.0.0", layout: { structs: {} } }));
    expect(() => loadDataplane({ ...options(), leaveUnknown: true })).toThrow(/newer version 9\.0\.0/);
    fs.writeFileSync(file, "");
  });

  it("stay until this build's programs are attached, where they may be left behind", () => {
    const loaded = loadDataplane({ ...options(), leaveUnknown: true });
    expect(loaded).toMatchObject({ adopted: false, replacesLayout: false, copiedFlows: 0, leftBehind: [FINGERPRINT] });
    expect(layouts()).toHaveLength(2);
    loaded.removeOldLayouts();
    expect(layouts()).toHaveLength(1);
    loaded.close();
  });
});
