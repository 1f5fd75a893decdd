// Where an agent mounts a bpffs itself, and where it refuses to.
import { expect, it } from "vitest";
import { bpffsRefusal, isInPod } from "../../src/datapath/bpffs-mount.ts";
import { mountOf, parseMounts, unescapePath } from "../../src/lib/mountinfo.ts";

const mounts = (tags: string): string =>
  ["27 1 254:0 / / rw,relatime - ext4 /dev/vda rw", `23 27 0:22 / /sys rw,nosuid${tags} - sysfs sysfs rw`].join("\n");

interface Case {
  readonly name: string;
  readonly tags?: string;
  readonly mounts?: string;
  readonly inPod?: boolean;
  readonly isInit?: boolean;
  readonly hasOwnMounts?: boolean;
  /** Part of the refusal, "": it is mounted. */
  readonly says: string;
}

const CASES: readonly Case[] = [
  { name: "a process of the machine mounts it", says: "" },
  { name: "a pod does not", inPod: true, says: "mountPropagation Bidirectional" },
  { name: "a pod that follows its host's mounts does not", inPod: true, tags: " master:7", says: "millrace prepare" },
  { name: "a pod whose mounts the host sees does", inPod: true, tags: " shared:7", says: "" },
  {
    name: "a volume of the host's /sys/fs/bpf that is shared counts before /sys",
    inPod: true,
    mounts: `${mounts("")}\n90 23 0:31 / /sys/fs/bpf rw shared:9 master:1 - tmpfs tmpfs rw`,
    says: "",
  },
  { name: "the first process of a container does not", isInit: true, says: "this container's alone" },
  { name: "a process with mounts of its own does not", hasOwnMounts: true, says: "mount -t bpf bpf /sys/fs/bpf" },
  { name: "one with mounts of its own that others see does", hasOwnMounts: true, tags: " shared:3", says: "" },
];

it.each(CASES)("$name", ({ tags = "", says, ...facts }) => {
  const refusal = bpffsRefusal({
    inPod: false,
    isInit: false,
    hasOwnMounts: false,
    ...facts,
    mounts: parseMounts(facts.mounts ?? mounts(tags)),
  });
  if (says === "") expect(refusal).toBe("");
  else expect(refusal).toContain(says);
});

it("a pod is known by what the kubelet tells every container", () => {
  expect(isInPod({ KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" })).toBe(true);
  expect([isInPod({}), isInPod({ KUBERNETES_SERVICE_HOST: "10.96.0.1" })]).toEqual([false, false]);
});

it("mounts are read as the kernel writes them, and the last of the longest holds a path", () => {
  const text = [
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    "28 27 0:30 /a\\040b /mnt/c\\040d ro,nosuid shared:1 master:2 propagate_from:3 - bpf bpffs rw,mode=700",
    "29 27 0:31 / /mnt rw - tmpfs tmpfs rw",
    "nonsense",
    "",
  ].join("\n");
  const read = parseMounts(text);
  expect(read).toHaveLength(3);
  expect(read[1]).toEqual({
    ...{ id: 28, parent: 27, device: "0:30", root: "/a b", path: "/mnt/c d" },
    ...{ isShared: true, isFollower: true, type: "bpf", readOnly: true },
  });
  expect(mountOf("/mnt/c d/e", read)?.id).toBe(28);
  expect(mountOf("/mnt/c", read)?.id).toBe(29);
  expect(mountOf("/mntx", read)?.id).toBe(27);
  expect(unescapePath("a\\134b")).toBe("a\\b");
});
