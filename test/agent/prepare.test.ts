// What `millrace prepare` does to a node, on directories in place of /proc/sys and with mounts that are only asked about.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { conntrackOf } from "../../src/agent/options.ts";
import { type PrepareOptions, prepareNode } from "../../src/agent/prepare.ts";
import { createSysctls } from "../../src/agent/sysctls.ts";
import { Failure } from "../../src/lib/errors.ts";

let root = "";
const path = (name: string): string => join(root, name);
const read = (name: string): string => readFileSync(path(name), "utf8").trim();
function put(name: string, text: string): void {
  mkdirSync(dirname(path(name)), { recursive: true });
  writeFileSync(path(name), `${text}\n`);
}

const PORTS = "proc/sys/net/ipv4/ip_local_reserved_ports";
const CONNTRACK = "proc/sys/net/netfilter/nf_conntrack_";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "prepare-"));
  put(PORTS, "8080");
  put(`${CONNTRACK}max`, "65536");
  put(`${CONNTRACK}tcp_timeout_established`, "432000");
  put(`${CONNTRACK}tcp_timeout_close_wait`, "3600");
  put("sys/module/nf_conntrack/parameters/hashsize", "16384");
});
afterEach(() => rmSync(root, { recursive: true }));

const options = (): PrepareOptions => ({
  manifests: [],
  pinDir: path("sys/fs/bpf/millrace"),
  stateDir: path("state"),
  snatPortRange: { first: 49152, last: 65535 },
  conntrackMaxPerCore: 0,
  conntrackMin: undefined,
  conntrackEstablishedSeconds: undefined,
  conntrackCloseWaitSeconds: undefined,
  conntrackUdpSeconds: 0,
  conntrackUdpStreamSeconds: 0,
  conntrackTcpBeLiberal: false,
});

function prepare(more: Partial<PrepareOptions> = {}, hasBpffs = true) {
  const pinned: string[] = [];
  const mounts = { isBpffs: () => hasBpffs, preparePinDir: (at: string) => void pinned.push(at) };
  return { ...prepareNode({ ...options(), ...more }, { root: `${root}/`, mounts }), pinned };
}

describe("a node is prepared", () => {
  it("with ports reserved and timeouts as kube-proxy sets them, said with what was before", () => {
    expect(prepare()).toEqual({
      done: [
        "set net.netfilter.nf_conntrack_tcp_timeout_established from 432000 to 86400",
        "reserved ports 49152-65535 in net.ipv4.ip_local_reserved_ports",
      ],
      left: [],
      pinned: [options().pinDir],
    });
    expect(read(PORTS)).toBe("8080,49152-65535");
  });

  it("once: a second time there is nothing to do", () => {
    prepare();
    expect(prepare()).toEqual({ done: [], left: [], pinned: [options().pinDir] });
  });

  it("with room for what the cores make, and buckets for that", () => {
    const { done } = prepare({ conntrackMaxPerCore: 1, conntrackMin: 131_072 });
    expect(done).toContain("set net.netfilter.nf_conntrack_max from 65536 to 131072");
    expect(done).toContain("set nf_conntrack.hashsize from 16384 to 32768");
  });

  it("so that its agent, which may write no sysctl, finds all of them set", () => {
    prepare();
    const { snatPortRange, stateDir } = options();
    const sysctls = createSysctls({
      ports: snatPortRange,
      stateDir,
      conntrack: conntrackOf(options()),
      root: `${root}/`,
    });
    const files = [PORTS, `${CONNTRACK}max`, `${CONNTRACK}tcp_timeout_established`];
    const written = () => files.map((name) => statSync(path(name), { bigint: true }).mtimeNs);
    const before = written();
    sysctls.apply([]);
    expect([sysctls.notices(), written()]).toEqual([[], before]);
  });

  it("as far as it can be: what a kernel refuses is told", () => {
    rmSync(path(PORTS));
    mkdirSync(path(PORTS));
    const { done, left } = prepare();
    expect(done).toEqual(["set net.netfilter.nf_conntrack_tcp_timeout_established from 432000 to 86400"]);
    expect(left).toEqual([expect.stringContaining("EISDIR")]);
  });

  it("where netfilter tracks nothing its limits are told to be unset", () => {
    rmSync(path("proc/sys/net/netfilter"), { recursive: true });
    rmSync(path("sys/module"), { recursive: true });
    expect(prepare().left).toEqual(["netfilter tracks no connections yet: its limits are not set"]);
  });
});

describe("a bpffs", () => {
  it("is mounted where there is none, and said", () => {
    const { done, pinned } = prepare({}, false);
    expect([done[0], pinned]).toEqual(["mounted a bpffs at /sys/fs/bpf", [options().pinDir]]);
  });

  it("that cannot be had ends it before anything is set", () => {
    const mounts = {
      isBpffs: () => false,
      preparePinDir() {
        throw new Failure(
          "machine",
          "/sys/fs/bpf",
          "could not mount a bpffs at /sys/fs/bpf: it would be this pod's alone",
        );
      },
    };
    expect(() => prepareNode(options(), { root: `${root}/`, mounts })).toThrow("it would be this pod's alone");
    expect(read(PORTS)).toBe("8080");
  });
});
