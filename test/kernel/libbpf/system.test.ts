import fs from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import {
  clockBoottimeNs,
  createWakeup,
  FEATURES,
  type FeatureName,
  feature,
  features,
  isBpffs,
  isCgroup2,
  lockFile,
  membarrierGlobalAsync,
  mountBpffs,
  netnsCookie,
  pollReadable,
  releaseFreeMemory,
  releaseProgramPages,
  resetFeatures,
} from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import {
  allDescriptors,
  temporaryBpffs,
  temporaryCgroup,
  temporaryDirectory,
  temporaryNamespace,
  withEnvironment,
} from "./fixture.ts";

describeKernel("system calls", () => {
  it("a barrier ends", async () => {
    const before = allDescriptors();
    expect(["membarrier", "map-update"]).toContain(await membarrierGlobalAsync());
    using _ = withEnvironment({ MILLRACE_WITHOUT: "membarrier" });
    expect(await membarrierGlobalAsync()).toBe("map-update");
    expect(allDescriptors().filter((line) => line.includes("bpf"))).toEqual(
      before.filter((line) => line.includes("bpf")),
    );
  });

  it("pages of program files are given back, and come again when they are used", () => {
    const before = process.memoryUsage().rss;
    const released = releaseProgramPages();
    releaseFreeMemory();
    expect(released).toBeGreaterThan(1 << 20);
    expect(process.memoryUsage().rss).toBeLessThan(before);
    // Code that ran before runs again: regular expressions, numbers, dates, JSON.
    expect(
      JSON.parse(JSON.stringify([/a(b+)/.exec("abb")?.[1], (1234.5).toFixed(2), new Date(0).toISOString()])),
    ).toEqual(["bb", "1234.50", "1970-01-01T00:00:00.000Z"]);
  });

  it("each network namespace has a cookie of its own", () => {
    using namespace = temporaryNamespace();
    const here = netnsCookie();
    expect(netnsCookie()).toBe(here);
    const there = BigInt(namespace.scenario<string>("netnsCookie", {}));
    expect(there).not.toBe(here);
    expect(there).toBeGreaterThan(0n);
  });

  it("a program tells a namespace's cookie where no socket does", () => {
    using namespace = temporaryNamespace();
    const here = netnsCookie();
    const there = namespace.scenario<string>("netnsCookie", {});
    const before = allDescriptors();
    using _ = withEnvironment({ MILLRACE_WITHOUT: "netns_cookie_option" });
    expect([netnsCookie(), namespace.scenario<string>("netnsCookie", {})]).toEqual([here, there]);
    expect(allDescriptors()).toEqual(before);
  });

  it("without both there is no cookie", () => {
    using _ = withEnvironment({ MILLRACE_WITHOUT: "netns_cookie_option,netns_cookie" });
    expect(() => netnsCookie()).toThrow("could not use netns_cookie: it needs Linux 5.7 or later");
  });

  it("file systems are told apart, a missing path is none", () => {
    using bpffs = temporaryBpffs();
    using cgroup = temporaryCgroup();
    using plain = temporaryDirectory();
    expect([bpffs, cgroup, plain].map(({ path }) => [isBpffs(path), isCgroup2(path)])).toEqual([
      [true, false],
      [false, true],
      [false, false],
    ]);
    expect([isBpffs("/nonexistent"), isCgroup2("/nonexistent")]).toEqual([false, false]);
    // Mounting again changes nothing: what is pinned stays.
    fs.mkdirSync(`${bpffs.path}/kept`);
    mountBpffs(bpffs.path);
    expect(fs.existsSync(`${bpffs.path}/kept`)).toBe(true);
    expect(() => mountBpffs("/proc/nothing/here")).toThrow("could not make the directory /proc/nothing: ENOENT");
  });

  it("a lock is held by one, and given back", () => {
    using directory = temporaryDirectory();
    const path = `${directory.path}/lock`;
    const first = lockFile(path);
    expect(first?.path).toBe(path);
    expect(lockFile(path)).toBeUndefined();
    first?.close();
    first?.close();
    using second = lockFile(path);
    expect(second).toBeDefined();
    expect(() => lockFile(`${directory.path}/none/lock`)).toThrow("could not open the lock");
  });

  it("the boot clock is the kernel's", () => {
    const uptime = Number((fs.readFileSync("/proc/uptime", "utf8").split(" ")[0] ?? "").trim());
    expect(Math.abs(Number(clockBoottimeNs()) / 1e9 - uptime)).toBeLessThan(1);
    expect(clockBoottimeNs()).toBeLessThanOrEqual(clockBoottimeNs());
  });

  it("waiting ends with a wake-up or at its time", () => {
    using wakeup = createWakeup();
    using other = createWakeup();
    expect(pollReadable([wakeup.fd, other.fd], 0)).toEqual([]);
    other.wake();
    expect(pollReadable([wakeup.fd, other.fd], -1)).toEqual([other.fd]);
  });
});

describeKernel("feature probes", () => {
  afterEach(() => resetFeatures());

  it("each feature is told with the version that brought it", () => {
    const all = features();
    expect(Object.keys(all).sort()).toEqual(Object.keys(FEATURES).sort());
    for (const [name, found] of Object.entries(all)) {
      expect(found).toMatchObject({ name, since: FEATURES[name as FeatureName], overridden: false });
    }
  });

  it("a probe agrees with the version on a kernel that nobody patched below it", () => {
    const [major = 0, minor = 0] = fs
      .readFileSync("/proc/sys/kernel/osrelease", "utf8")
      .split(".")
      .map((part) => Number.parseInt(part, 10));
    for (const found of Object.values(features())) {
      const [sinceMajor = 0, sinceMinor = 0] = found.since.split(".").map(Number);
      // Distributions carry features backwards, and nohz_full takes membarrier away.
      if (found.name === "membarrier") continue;
      const old = major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
      if (old) expect([found.name, found.available]).toEqual([found.name, true]);
    }
  });

  it("probing leaves nothing open", () => {
    const before = allDescriptors();
    features();
    expect(allDescriptors()).toEqual(before);
  });

  describe("the environment", () => {
    it("takes features away", () => {
      using _ = withEnvironment({ MILLRACE_WITHOUT: "tcx, batch" });
      expect(feature("tcx")).toMatchObject({ available: false, since: "6.6" });
      expect(feature("batch")).toMatchObject({ available: false, overridden: true });
      expect(feature("ringbuf")).toMatchObject({ available: true, overridden: false });
    });

    it("refuses names that are no feature", () => {
      using _ = withEnvironment({ MILLRACE_WITHOUT: "tcx,nonsense" });
      expect(() => feature("tcx")).toThrow(
        "could not use MILLRACE_WITHOUT: 'nonsense' is no feature; features are tcx, ",
      );
    });
  });
});
