// What is in the image, as data: Debian packages by name, what is kept of them, and how it is run. Debian's own dependencies are not
// followed, as they bring Perl, a shell and a package manager; instead every program's libraries are looked up in what was
// taken, and one that is missing fails the build.
import { MALLOC_ARENAS, NODE_FLAGS } from "../node-flags.ts";

export const SUITE = "bookworm";

/** Architectures of images: Debian's and the OCI's name, npm's, and the directory of libraries. */
export const ARCHITECTURES = {
  amd64: { npm: "x64", triplet: "x86_64-linux-gnu" },
  arm64: { npm: "arm64", triplet: "aarch64-linux-gnu" },
} as const;

export type Architecture = keyof typeof ARCHITECTURES;

export const PACKAGES: readonly string[] = [
  // What Node and libbpf are linked with.
  ...["libc6", "libgcc-s1", "gcc-12-base", "libstdc++6", "zlib1g", "libelf1", "libbpf1"],
  // os-release, the texts of licences, names of protocols and ports.
  ...["base-files", "netbase"],
  // `env`, which starts Node with its flags where others have a shell.
  "coreutils",
  // `tc` finds filters on kernels before 6.6, `ip` is for people.
  ...["iproute2", "libbsd0", "libmd0", "libcap2", "libmnl0", "libxtables12"],
  // Forward policies, and what a kube-proxy left.
  ...["iptables", "libip4tc2", "libip6tc2", "libnftnl11", "libnetfilter-conntrack3", "libnfnetlink0"],
  ...["nftables", "libnftables1", "libedit2", "libtinfo6", "libjansson4", "libgmp10"],
  // The other end of a veth.
  ...["ethtool", "util-linux", "libselinux1", "libpcre2-8-0"],
];

/** Of these packages only the programs named here are taken, with the names that others know them by. */
export const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  coreutils: ["usr/bin/env"],
  iproute2: ["usr/sbin/tc", "usr/bin/ip"],
  iptables: ["usr/sbin/xtables-nft-multi", "usr/sbin/xtables-legacy-multi"],
  nftables: ["usr/sbin/nft"],
  ethtool: ["usr/sbin/ethtool"],
  "util-linux": ["usr/bin/nsenter"],
};

const TABLES = ["iptables", "ip6tables"].flatMap((name) => [name, `${name}-save`, `${name}-restore`]);
const variant = (name: string, kind: string): string => name.replace(/^ip6?tables/, (tables) => `${tables}-${kind}`);

/** Links, from → to. Debian's scripts, which choose a variant of iptables, are not run: it is nftables', as on Debian. */
export const LINKS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(["bin", "sbin", "lib", "lib64"].map((name) => [name, `usr/${name}`])),
  ...Object.fromEntries(TABLES.map((name) => [`usr/sbin/${name}`, "xtables-nft-multi"])),
  ...Object.fromEntries(TABLES.map((name) => [`usr/sbin/${variant(name, "nft")}`, "xtables-nft-multi"])),
  ...Object.fromEntries(TABLES.map((name) => [`usr/sbin/${variant(name, "legacy")}`, "xtables-legacy-multi"])),
  "var/run": "/run",
};

/** Of every package, with `/lib` below `/usr`: all but programs and what only people or other programs read. */
export const LEFT_OUT: readonly RegExp[] = [
  /^usr\/s?bin\//,
  /^usr\/(games|include|libexec|src)\//,
  /^usr\/share\/(?!doc\/|common-licenses\/)/,
  /^usr\/share\/doc\/[^/]+\/(?!copyright$)/,
  /^usr\/lib\/[^/]+\/(audit|gconv|engines-[^/]*|perl[^/]*|tc)\//,
  /^usr\/lib\/(init|systemd|tc|tmpfiles\.d|udev|valgrind)\//,
  /^etc\/(?!protocols$|services$|rpc$|ethertypes$|iproute2\/|os-release$|debian_version$)/,
  /^(boot|home|media|mnt|opt|srv)\//,
  /^var\//,
];

/** Directories that are there, empty; those of the kernel are mounted by whoever runs it. */
export const DIRECTORIES: readonly string[] = [
  ...["dev", "etc/millrace", "host", "proc", "root", "run/millrace", "sys", "tmp", "usr/local/lib", "var/lib/millrace"],
  ...["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "var/lib/dpkg/status.d"],
];

/** The modes of what is not 0755 or 0644. */
export const MODES: Readonly<Record<string, number>> = { tmp: 0o1777, root: 0o700, "etc/millrace": 0o755 };

export const FILES: Readonly<Record<string, string>> = {
  "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
  "etc/group": "root:x:0:\nnogroup:x:65534:\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
};

/** Where things are in the image. */
export const HOME = "usr/local/lib/millrace";
export const MAIN = `${HOME}/millrace.mjs`;
export const COMMAND = "usr/local/bin/millrace";
export const NODE = "usr/local/bin/node";

/** The first line of the main module: it makes that file a program, without a shell. */
export const INTERPRETER = `#!/usr/bin/env -S /${NODE} ${NODE_FLAGS.join(" ")}\n`;

/** Compressed, in bytes: more is refused. */
export const SIZE_LIMIT = 60_000_000;

export interface ImageText {
  readonly version: string;
  readonly description: string;
  readonly license: string;
}

/** What the configuration says about how it is run, in the names of the OCI. */
export function runConfig({ version, description, license }: ImageText): object {
  return {
    User: "0:0",
    Env: [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      `MALLOC_ARENA_MAX=${MALLOC_ARENAS}`,
      "HOME=/root",
    ],
    Entrypoint: [`/${COMMAND}`],
    WorkingDir: "/",
    StopSignal: "SIGTERM",
    Labels: {
      "org.opencontainers.image.title": "millrace",
      "org.opencontainers.image.description": description,
      "org.opencontainers.image.version": version,
      "org.opencontainers.image.licenses": license,
    },
  };
}
