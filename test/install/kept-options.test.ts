import { describe, expect, it } from "vitest";
import {
  imageParts,
  imageToKeep,
  type KeptOptions,
  keptText,
  lostBy,
  NOTHING_KEPT,
  parseKept,
} from "../../src/install/kept-options.ts";

const ALL: KeptOptions = {
  image: "r.example.com:5000/m@sha256:00",
  apiServer: "https://[fd00::1]:6443",
  loadBalancerClass: "a.b/c",
  except: ["w1", "w2"],
  sysAdmin: "off",
  imagePullSecrets: ["one"],
  set: { "healthz-bind-address": "", xdp: "off" },
  version: "0.1.0",
  taken: { "nodeport-addresses": "primary" },
};

describe("what an installation was told", () => {
  it.each([
    ["everything", ALL],
    ["nothing", NOTHING_KEPT],
  ])("is read as it was written: %s", (_, kept) => {
    expect(parseKept(keptText(kept))).toEqual(kept);
  });

  it("is short where little was told, and the same whatever the order", () => {
    expect(keptText(NOTHING_KEPT)).toBe("{}");
    const [a, b] = [
      { x: "1", y: "2" },
      { y: "2", x: "1" },
    ];
    expect(keptText({ ...NOTHING_KEPT, set: a })).toBe(keptText({ ...NOTHING_KEPT, set: b }));
  });

  it.each([undefined, "", "{", "null", "[]", "1"])("is not known where the annotation is %j", (annotation) => {
    expect(parseKept(annotation)).toBeUndefined();
  });

  it("counts as far as it makes sense", () => {
    const odd = { image: 1, except: ["a", 2], "sys-admin": "maybe", set: { xdp: "off", mtu: 9 } };
    expect(parseKept(JSON.stringify(odd))).toEqual({ ...NOTHING_KEPT, except: ["a"], set: { xdp: "off" } });
  });
});

describe("an image", () => {
  it.each([
    ["localhost/millrace:0.1.0", "localhost/millrace", "0.1.0"],
    ["r:5000/millrace", "r:5000/millrace", ""],
    ["r:5000/millrace:1@sha256:00", "r:5000/millrace", "1"],
    ["millrace@sha256:00", "millrace", ""],
  ])("%s has a repository and a tag", (image, repository, tag) => {
    expect(imageParts(image)).toEqual({ repository, tag });
  });

  it.each([
    ["r/m:0.1.0-patched", "0.1.0", "localhost/millrace:0.1.0", "r/m:0.1.0-patched"],
    ["r/m@sha256:00", "0.1.0", "localhost/millrace:0.2.0", "r/m:0.2.0"],
    ["r/m:x", "0.1.0", "localhost/millrace@sha256:11", "r/m:x"],
    ["", "0.1.0", "localhost/millrace:0.2.0", ""],
  ])("%s, told to %s, is for %s: %s", (image, version, ours, expected) => {
    expect(imageToKeep({ image, version }, ours)).toBe(expected);
  });
});

describe("what would be lost", () => {
  it("is named by the flag that keeps it", () => {
    const config = { apiserver: "https://a:1", xdp: "off", devices: ["a", "b"], "max-flows": 5, own: "x", same: true };
    const before = { config, image: "r/m:1" };
    const after = { config: { xdp: "auto", own: "y", same: true, more: "1" }, image: "localhost/millrace:2" };
    expect(lostBy(before, after, { own: "y" })).toEqual([
      "--image r/m:1",
      "--apiserver https://a:1",
      "--set xdp=off",
      "--set devices=a,b",
      "--set max-flows=5",
      "own: x",
    ]);
    expect(lostBy(before, { ...before, image: "r/m:2" }, {})).toEqual([]);
  });
});
