// Which backends run out of source ports.
import { describe, expect, it } from "vitest";
import { scarcePortNotices } from "../../src/agent/scarce-ports.ts";
import { createPortUse } from "../../src/datapath/source-ports.ts";

const backend = { address: "10.244.2.2", port: 8080, protocol: "TCP", serviceId: 7 };

describe("source ports", () => {
  it("are scarce from four fifths on, and the backend is read once", () => {
    const use = createPortUse(4, 100);
    let reads = 0;
    const add = (index: number, times: number): void => {
      for (let i = 0; i < times; i++)
        use.add(index, () => {
          reads++;
          return backend;
        });
    };
    add(1, 79);
    add(9, 500);
    expect(use.scarce()).toEqual([]);
    expect(use.most()).toBe(79);
    add(1, 4);
    add(2, 20);
    expect(use.scarce()).toEqual([{ ...backend, used: 83 }]);
    expect(reads).toBe(1);
    expect(use.most()).toBe(83);
    expect(createPortUse(4, 100).most()).toBe(0);
  });

  it("that are scarce are told of with the Service, the backend and what helps", () => {
    const scarce = [{ ...backend, used: 15_000 }];
    const range = { first: 49_152, last: 65_535 };
    const [notice] = scarcePortNotices(scarce, range, () => ({ service: "default/web" }) as never);
    expect(notice).toMatchObject({ object: "Service default/web", reason: "source-ports-scarce", severity: "error" });
    expect(notice?.message).toContain("15000 of 16384 source ports toward TCP 10.244.2.2:8080 are in use");
    expect(notice?.message).toContain("--snat-port-range");
    expect(scarcePortNotices(scarce, range, () => undefined)[0]?.object).toBe("Backend 10.244.2.2:8080");
  });
});
