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

/** Kernels that people run and Debian does not have: what is risky there, and what speaks for it. By the kernel's history, not seen. */
export const NOT_IN_DEBIAN: readonly { readonly name: string; readonly who: string; readonly risk: string }[] = [
  {
    name: "5.15",
    who: "Ubuntu 22.04, Azure Linux 2",
    risk:
      "Between 5.10 and 6.1, whose verifiers agree in what has refused our programs so far: a value that is spilled narrow and read again has " +
      "lost its bounds, and a map's inlined update returns an int. The first with SO_NETNS_COOKIE here; no bpf_set_retval. Calls of the kernel's functions are " +
      "resolved in dead code too (5.13 to 5.15): the programs that ask conntrack are an object of their own, which is not loaded there. Risky is what only " +
      "one of the neighbours was mended for by a stable update.",
  },
  {
    name: "6.6",
    who: "Azure Linux 3, WSL 2",
    risk:
      "The first with tcx, so it is attached as on 6.12, and verified by neither 6.1's nor 6.12's rules: precision is followed through functions since " +
      "6.5, bounds are 6.1's. More states may be kept apart; the largest program walks through less than a fifth of what is allowed.",
  },
  {
    name: "6.8",
    who: "Ubuntu 24.04",
    risk:
      "As 6.6, with the new arithmetic of bounds (6.8) and global functions verified only when they are called (6.8), but still without " +
      "bounds kept for narrow spills (6.9). A program that loads on both neighbours was walked by each rule, never by this mixture.",
  },
];
