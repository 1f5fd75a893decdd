// libbpf-ts: the kernel's BPF through the system's libbpf (1.1 or later). All that others may import. Knows programs, maps
// and links; knows nothing of what they are for.
export * from "./btf.ts";
export * from "./clsact.ts";
export {
  type ConnectionEnd,
  forgetConnection,
  type TranslatedConnection,
  translatedConnections,
} from "./conntrack.ts";
export * from "./constants.ts";
export { unpin } from "./descriptor.ts";
export { errnoName, errnoOf } from "./errno.ts";
export { type Feature, feature, features, hasFeature, isConntrackLoaded, resetFeatures } from "./features.ts";
export { deleteDevice, destroySet, removeVirtualServer, type VirtualServer, virtualServers } from "./ipvs.ts";
export { readMapBtf } from "./kernel-btf.ts";
export {
  attachCgroup,
  attachTcx,
  attachXdp,
  BpfLink,
  type Direction,
  isSeveredError,
  type LinkInfo,
  openPinnedLink,
  queryCgroup,
  queryTcx,
  type XdpMode,
} from "./link.ts";
export {
  BatchError,
  BpfMap,
  createMap,
  type MapSpec,
  openPinnedMap,
  type Rows,
} from "./map.ts";
export { type MapInfo, possibleCpus } from "./map-info.ts";
export type { NetlinkListener } from "./netlink.ts";
export { netnsCookie } from "./netns-cookie.ts";
export { deviceNameIn, joinGroup, leaveGroup, netnsId, XDP_TRANSMIT, xdpFeatures } from "./network.ts";
export { hasNftChain, hasNftTable, type NftFamily } from "./nft-chains.ts";
export { BpfObject, type ObjectLoadOptions, openObject, type ReadOnlyValue, summariseLog } from "./object.ts";
export { BpfProgram, openPinnedProgram, programName, type TestResult, type TestRun } from "./program.ts";
export { type RecordCallback, RingBuffer } from "./ring-buffer.ts";
export {
  type AddressRecord,
  type LinkRecord,
  listenToNetwork,
  type NetworkRecords,
  readNetworkRecords,
} from "./rtnetlink.ts";
export { type ConnectedSocket, connectedSockets, destroySocket, listeningInodes } from "./sock-diag.ts";
export {
  clockBoottimeNs,
  createWakeup,
  type FileLock,
  isBpffs,
  isCgroup2,
  libbpfVersion,
  lockFile,
  membarrierGlobalAsync,
  mountBpffs,
  pollReadable,
  pollReadableAsync,
  releaseFreeMemory,
  releaseProgramPages,
  type Wakeup,
} from "./system.ts";
export { FEATURES, type FeatureName } from "./without.ts";
export { type OutputPolicy, outputPolicies } from "./xfrm.ts";
