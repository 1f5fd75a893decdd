// Programs are loaded beside whatever runs, and a program is gone when nobody holds it.
import { expect, it } from "vitest";
import { OBJECTS, objectPath } from "../../../src/datapath/objects.ts";
import { trialLoad } from "../../../src/datapath/trial-load.ts";
import { libbpfVersion, openObject, programName } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";

describeKernel("a trial load", () => {
  it("takes every program of this build", async () => {
    const wanted = OBJECTS.reduce((sum, name) => {
      using object = openObject(objectPath(name));
      return sum + object.programs().length;
    }, 0);
    expect(await trialLoad()).toBe(wanted);
    expect(wanted).toBeGreaterThan(10);
  });

  it("programs are known by their ids while they are there", () => {
    let id = 0;
    {
      using object = openObject(objectPath("xdp"));
      for (const name of object.programs()) object.setAutoload(name, name === object.programs()[0]);
      object.load();
      const [first = ""] = object.programs();
      id = object.program(first).id;
      expect(programName(id)).toBe(first.slice(0, 15));
    }
    expect(programName(id)).toBeUndefined();
  });

  it("the library says its version", () => {
    expect(libbpfVersion()).toMatch(/^1\.\d+$/);
  });
});
