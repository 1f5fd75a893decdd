import { describe, expect, it } from "vitest";
import { advertisementNotices } from "../../src/decide/advertisement-notices.ts";
import type { AddressPool, L2Advertisement } from "../../src/model/objects.ts";

const pool = (name: string, namespace = "metallb-system") => ({ namespace, name }) as AddressPool;
const advertisement = (pools: string[], namespace = "metallb-system") =>
  ({ namespace, name: "l2", pools }) as unknown as L2Advertisement;

describe("an advertisement", () => {
  it("of pools that are there, or of all, has no notice", () => {
    expect(advertisementNotices([advertisement(["a"]), advertisement([])], [pool("a")])).toEqual([]);
  });

  it("of a pool that is not there is told, with the one that was meant", () => {
    expect(advertisementNotices([advertisement(["first", "secnd"])], [pool("first"), pool("second")])).toMatchObject([
      {
        object: "L2Advertisement metallb-system/l2",
        field: "spec.ipAddressPools[1]",
        reason: "no-such-pool",
        severity: "info",
        message:
          'spec.ipAddressPools[1]: Not found: "secnd": namespace metallb-system has no such IPAddressPool; did you mean second?',
      },
    ]);
  });

  it("reaches no pool of another namespace", () => {
    expect(advertisementNotices([advertisement(["a"], "default")], [pool("a")])).toHaveLength(1);
  });
});
