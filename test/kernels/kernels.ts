// The kernels that `make kernels` boots, and what Debian calls them. Point releases come and go, so packages are patterns.

export interface KernelSource {
  /** What KERNELS says, and the table's first column. */
  readonly name: string;
  /** Debian's suite that has it. */
  readonly suite: string;
  /** The image; packages of the same version that it depends on come with it. The newest wins. */
  readonly image: RegExp;
  /** A real NIC and a VLAN device under the uplink are tried on it. */
  readonly nic: boolean;
}

export const KERNELS: readonly KernelSource[] = [
  { name: "5.10", suite: "bullseye", image: /^linux-image-5\.10\.0-\d+-amd64-unsigned$/, nic: false },
  { name: "6.1", suite: "bookworm", image: /^linux-image-6\.1\.0-\d+-amd64$/, nic: true },
  { name: "6.12", suite: "bookworm", image: /^linux-image-6\.12\.\d+\+deb12-amd64$/, nic: true },
  { name: "7.x", suite: "sid", image: /^linux-image-7\.[\d.]+\+deb\d+-amd64$/, nic: true },
];

/** Kernels that people run and Debian does not have: what is risky there, and what speaks for it. */
export const NOT_IN_DEBIAN: readonly { readonly name: string; readonly who: string; readonly risk: string }[] = [
  {
    name: "5.15",
    who: "Ubuntu 22.04, RHEL 9's base is 5.14",
    risk:
      "Has what 5.10 has and SO_NETNS_COOKIE. Its verifier is 5.10's kind: no link between a narrow spill and its register, so the " +
      "same programs that 5.10 and 6.1 refuse would be refused. Frames count as on 6.1. An early 5.15 without stable updates is not covered by either neighbour.",
  },
  {
    name: "6.6",
    who: "Amazon Linux 2023's newer kernel, many LTS appliances",
    risk:
      "The first with tcx: it is served by links where 6.1 has filters of clsact. Its verifier lies between 6.1 and 6.12: precision is tracked " +
      "through the stack only in part, so the count of instructions is nearer to 6.1's. Map updates return a long again (6.4).",
  },
  {
    name: "6.8",
    who: "Ubuntu 24.04",
    risk:
      "As 6.6, with a verifier in the middle of its rewrite (bounds of both widths, 6.8) and before it linked narrow spills (6.9): what loads on 6.1 and 6.12 " +
      "has been walked by both rule sets, but never by this mixture.",
  },
];
