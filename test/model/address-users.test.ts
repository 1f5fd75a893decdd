// Holds address-users.ts: nobody who has an address is ever forgotten.
import { describe, expect, test } from "vitest";
import { createAddressUsers } from "../../src/model/address-users.ts";

const listed = (found: ReadonlySet<string> | "many"): string | string[] =>
  found === "many" ? found : [...found].sort();

describe("users of an address", () => {
  test.each([
    ["10.244.1.9", ["10.244.1.9"]],
    ["10.244.1.9", ["10.9.9.9", "10.244.1.77"]],
    ["fd00:10:244:1::5", ["fd00:10:244:1::5"]],
    ["::1:0:5", ["::1:0:5"]],
  ])("of %s include who has %j", (address, addresses) => {
    const users = createAddressUsers();
    users.add("web", addresses);
    expect(listed(users.of(address))).toEqual(["web"]);
  });

  test("of a network that nobody has an address in are nobody", () => {
    const users = createAddressUsers();
    users.add("web", ["10.244.1.9", "fd00::1"]);
    expect(listed(users.of("10.96.0.1"))).toEqual([]);
  });

  test("that are too many to list are said to be many, until the last has gone", () => {
    const users = createAddressUsers();
    const names = Array.from({ length: 200 }, (_, i) => `user${i}`);
    for (const [i, name] of names.entries()) users.add(name, [`10.0.0.${i}`, "10.0.0.250"]);
    expect(users.of("10.0.0.7")).toBe("many");
    for (const [i, name] of names.entries()) {
      expect(listed(users.of("10.0.0.7"))).not.toEqual([]);
      users.remove(name, [`10.0.0.${i}`, "10.0.0.250"]);
    }
    expect(listed(users.of("10.0.0.7"))).toEqual([]);
    users.add("web", ["10.0.0.7"]);
    expect(listed(users.of("10.0.0.7"))).toEqual(["web"]);
  });
});
