// The kernel's own maps, asked for more than they hold: what fits is in force, and no write fails.
import { afterAll, beforeAll, expect, it } from "vitest";
import { endpoint, service, slice } from "../../flows/builders.ts";
import { describeKernel } from "../require-kernel.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const SERVICES = 100;

/** Services with an endpoint each, whose last byte begins at `from`. */
const objects = (from: number) => ({
  services: Array.from({ length: SERVICES }, (_, i) => service({ name: `s${i}`, clusterIPs: [`10.96.1.${i}`] })),
  slices: Array.from({ length: SERVICES }, (_, i) =>
    slice({ service: `s${i}`, name: `s${i}-1`, endpoints: [endpoint(`10.244.2.${from + i}`, "node2")] }),
  ),
});

describeKernel("maps that are full", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());

  const serving = (): string[] =>
    [...node.dataplane.readState().backends.values()].map(({ address }) => address).sort();
  const roles = (): string[] =>
    [...node.dataplane.readState().addresses].flatMap(([address, { refuse }]) => (refuse ? [address] : []));

  it("more Services than frontends, ids and addresses: those that fit are served, and no others have a role", async () => {
    await node.feed(objects(0));
    const { frontends, addresses } = node.dataplane.readState();
    expect(frontends).toHaveLength(59);
    // The nodes have addresses too: one of the 59 finds no room for its role.
    expect(addresses.size).toBe(node.dataplane.capacity.addresses);
    expect(frontends.map(({ key }) => key.address)).toEqual(expect.arrayContaining(roles()));
    expect(serving()).toHaveLength(59);
  });

  it("is said to be in force when it is, although a plan after an adoption begins with a grace period", async () => {
    const present = (): number => node.dataplane.readState().addresses.size;
    const [[address, roles] = ["", undefined]] = [...node.dataplane.readState().addresses];
    const before = present();
    const seen: number[] = [];
    const tell = (): void => void seen.push(present());
    await node.dataplane.apply([{ op: "grace" }, { op: "drop-address", address }, { op: "grace" }], tell);
    await node.dataplane.apply([{ op: "grace" }, { op: "put-address", address, roles: roles! }], tell);
    expect(seen).toEqual([before - 1, before]);
  });

  it("all of their endpoints are replaced", async () => {
    await node.feed(objects(100));
    expect(serving()).toHaveLength(59);
    expect(serving().filter((address) => Number(address.split(".")[3]) < 100)).toEqual([]);
  });
});
