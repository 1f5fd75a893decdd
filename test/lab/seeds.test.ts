// Every example, on labs of each kind: the three ways to connect pods, both families, and the machines that break others:
// conntrack with INVALID dropped, checksums completed behind the programs, older attachment, sockets of the host only, XDP.
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkedLab } from "../../src/lab/checked-lab.ts";
import type { LabSession } from "../../src/lab/lab-session.ts";
import { runSeeds, type SeedVerdict } from "../../src/lab/seed-checks.ts";
import { SEEDS, type Seed } from "../../src/lab/seed-group.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { keepUdp } from "./kept-udp.ts";
import { downLab, labName, tracesOf, upLab } from "./lab-fixture.ts";
import { replaceDns } from "./replaced-dns.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../deploy/examples");
const LAB = labName("seeds");

interface Variant {
  readonly name: string;
  readonly flags: readonly string[];
  /** Connected UDP sockets are kept there, and resolvers ask, while their backend, on this node, dies. */
  readonly udpDiesOn?: "node1" | "node2";
}

const VARIANTS: readonly Variant[] = [
  { name: "pods on a bridge, both families", flags: ["--cni", "bridge", "--ipv6"], udpDiesOn: "node1" },
  {
    name: "pods on a bridge, conntrack that drops what it does not know, bridged packets too, clsact instead of tcx",
    flags: ["--cni", "bridge", "--netfilter", "--bridge-nf", "--without", "tcx"],
  },
  { name: "pods on a bridge, both families, XDP on the uplinks", flags: ["--cni", "bridge", "--ipv6", "--xdp", "on"] },
  {
    name: "pods with point-to-point routes, both families, checksums completed behind the programs",
    flags: ["--cni", "ptp", "--ipv6", "--tx-offload", "off"],
    udpDiesOn: "node1",
  },
  {
    name: "pods with point-to-point routes, conntrack, sockets of the host only",
    flags: ["--cni", "ptp", "--netfilter", "--sockets", "host-only"],
  },
  {
    name: "pods on a VXLAN, both families, uplinks found by the agent",
    flags: ["--cni", "vxlan", "--ipv6", "--devices", "auto"],
    udpDiesOn: "node2",
  },
  {
    name: "pods on a VXLAN, conntrack, checksums, sockets of the host only",
    flags: ["--cni", "vxlan", "--netfilter", "--tx-offload", "off", "--sockets", "host-only"],
  },
];

describeKernel("the examples", () => {
  describe.each(VARIANTS)("$name", ({ name, flags, udpDiesOn }) => {
    const verdicts = new Map<Seed, SeedVerdict>();
    let session: LabSession | undefined;

    beforeAll(async () => {
      session = upLab(LAB, flags);
      const options = {
        cluster: checkedLab(session),
        examples: EXAMPLES,
        dualStack: flags.includes("--ipv6"),
        progress: () => {},
      };
      await runSeeds({ ...options, verdict: (verdict) => verdicts.set(verdict.seed, verdict) });
    }, 400_000);

    afterAll(() => {
      session?.close();
      downLab(LAB);
      expect(tracesOf(LAB)).toEqual([]);
    });

    it.each(SEEDS)("%s shows what it must show", (seed) => {
      expect(verdicts.get(seed)).toEqual({ seed, failure: "" });
    });

    it.runIf(udpDiesOn !== undefined)(
      "connected UDP sockets whose backend dies are served by another, or get errors, and nobody reaches a stranger",
      () => keepUdp(LAB, name, udpDiesOn!),
    );

    it.runIf(udpDiesOn !== undefined)(
      "a resolver of the host, as kubelet's, is answered at once when the DNS Service's only pod was replaced, and by no stranger",
      () => replaceDns(LAB, name, udpDiesOn!),
    );
  });
});
