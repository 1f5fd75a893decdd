import { describe, expect, it } from "vitest";
import { exemptRanges, rangeNotices } from "../../src/model/address-book.ts";
import type { PrefixRange } from "../../src/model/operations.ts";
import { node, service } from "../flows/builders.ts";
import { bench, text } from "./setup.ts";

const prefix = (written: string): { address: string; length: number } => {
  const [address = "", length] = written.split("/");
  return { address, length: Number(length) };
};
const written = (ranges: readonly PrefixRange[]): string[] =>
  ranges.map(({ address, length, exempt }) => `${address}/${length}${exempt === true ? " exempt" : ""}`);

const SERVICES = ["10.96.0.0/12", "fd00:10:96::/112"].map(prefix);

describe("networks of this node", () => {
  it.each([
    ["in a Service range are exempt, by their network", ["10.96.5.11/24"], ["10.96.5.0/24 exempt"]],
    ["around one too", ["10.1.2.3/8", "fd00:10:96::1/64"], ["10.0.0.0/8 exempt", "fd00:10:96::/64 exempt"]],
    ["that are one are exempt as one", ["10.100.0.1/16", "10.100.0.1/16"], ["10.100.0.0/16 exempt"]],
    ["within each other are exempt once", ["10.100.7.1/24", "10.100.0.1/16"], ["10.100.0.0/16 exempt"]],
    ["apart from Service ranges need not be", ["192.168.122.11/24", "fd00:192::1/64"], []],
    ["that are a single address need not be", ["10.96.0.53/32", "fd00:10:96::53/128"], []],
  ])("%s", (_name, held, expected) => {
    expect(written(exemptRanges(held.map(prefix), SERVICES))).toEqual(expected);
  });

  it("that find no room are not called ranges of Services", () => {
    const ranges = [{ ...prefix("10.96.5.0/24"), exempt: true }, prefix("10.96.0.0/12"), prefix("10.112.0.0/12")];
    expect(rangeNotices(ranges, 3)).toEqual([]);
    expect(rangeNotices(ranges, 2)).toMatchObject([{ message: expect.stringContaining("of 10.112.0.0/12 that") }]);
  });
});

describe("a model that is told of this node's networks", () => {
  it("plans what follows from them, and nothing when they are the same", () => {
    const { model, maps, feed } = bench({ serviceRanges: [prefix("10.96.0.0/12")], nodes: [node(1)] });
    feed({ services: [service()] });
    const apply = (...held: string[]): number => {
      model.setNetworks(held.map(prefix));
      const operations = model.isDirty() ? model.plan() : [];
      maps.apply(operations);
      return operations.length;
    };
    expect(apply("10.96.5.11/24", "192.168.122.11/24")).toBeGreaterThan(0);
    const others = maps
      .dump()
      .split("\n")
      .filter((line) => /^(address|range) /.test(line));
    expect(others.join("\n")).toBe(
      text(`
        address 10.96.0.10 refuse
        address 10.96.5.11 peer
        address 192.168.122.11 node
        address fd00:192:168:122::11 node
        range 10.96.0.0/12
        range 10.96.5.0/24 exempt
      `),
    );
    expect(written(maps.serviceRanges)).toEqual(["10.96.5.0/24 exempt", "10.96.0.0/12"]);
    expect(apply("192.168.122.11/24", "10.96.5.11/24", "10.96.5.11/24")).toBe(0);
    expect(apply()).toBeGreaterThan(0);
    expect(maps.dump()).not.toMatch(/peer|exempt/);
  });

  it("leaves a device its address, says so, and takes it when the device has gone", () => {
    const { model, maps, feed, reasons } = bench({ nodes: [node(1)] });
    model.setNetworks([prefix("10.96.0.10/32")]);
    feed({ services: [service()] });
    expect([reasons(), maps.dump().includes("frontend 10.96.0.10")]).toEqual([
      ["left-to-device Service default/web"],
      false,
    ]);
    model.setNetworks([]);
    maps.apply(model.plan());
    expect([reasons(), maps.dump().includes("frontend 10.96.0.10 TCP 80")]).toEqual([[], true]);
  });
});
