// Numbers of the kernel's bpf(2) interface under the names that this binding uses. Never grows behaviour.

/** Commands of bpf(2). */
export const Command = {
  progGetFdById: 13,
  progQuery: 16,
  btfGetFdById: 19,
  btfGetNextId: 23,
  objGetInfoByFd: 15,
  progTestRun: 10,
  linkCreate: 28,
  linkUpdate: 29,
  linkDetach: 34,
} as const;

/** Maps that can be made here. Others have their names by typeName alone. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  percpu_hash: 5,
  percpu_array: 6,
  lru_hash: 9,
  lpm_trie: 11,
  array_of_maps: 12,
  ringbuf: 27,
} as const;

export type MapType = keyof typeof MAP_TYPES;

/** Flags of a map's creation. */
export const MapFlag = {
  noPrealloc: 1 << 0,
  noCommonLru: 1 << 1,
  readOnly: 1 << 3,
  writeOnly: 1 << 4,
  readOnlyProgram: 1 << 7,
  writeOnlyProgram: 1 << 8,
  mmapable: 1 << 10,
  innerMap: 1 << 12,
} as const;

/** Flags of an update. */
export const Update = { any: 0, noexist: 1, exist: 2 } as const;

/** Programs of a few instructions that can be loaded here. */
export const PROGRAM_TYPES = {
  sched_cls: 3,
  xdp: 6,
  cgroup_sock_addr: 18,
} as const;

export type ProgramType = keyof typeof PROGRAM_TYPES;

/** Attach types that this binding attaches, with the kernel's numbers. */
export const ATTACH_TYPES = {
  cgroup_inet4_connect: 10,
  cgroup_inet6_connect: 11,
  cgroup_udp4_sendmsg: 14,
  cgroup_udp6_sendmsg: 15,
  cgroup_udp4_recvmsg: 19,
  cgroup_udp6_recvmsg: 20,
  cgroup_inet4_getpeername: 29,
  cgroup_inet6_getpeername: 30,
  cgroup_inet_sock_release: 34,
  xdp: 37,
  tcx_ingress: 46,
  tcx_egress: 47,
} as const;

export type AttachType = keyof typeof ATTACH_TYPES;

/** Where among the programs of one hook a tcx link goes (Linux 6.6). */
export const TcxFlag = { before: 1 << 3, after: 1 << 4 } as const;

export const XdpFlag = { generic: 1 << 1, driver: 1 << 2 } as const;
