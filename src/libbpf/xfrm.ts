// IPsec output policies of the calling thread's network namespace, by netlink (linux/xfrm.h). Changes nothing.
import { readAddress } from "../lib/address.ts";
import { EPROTONOSUPPORT, errnoOf } from "./errno.ts";
import { findAttribute, NETLINK_XFRM, NetlinkDump } from "./netlink.ts";

export interface OutputPolicy {
  /** Prefixes in CIDR notation. */
  readonly source: string;
  readonly destination: string;
  readonly action: "allow" | "encrypt" | "block";
}

const XFRM_MSG_GETPOLICY = 0x15;
const AF_INET = 2;
/** struct xfrm_userpolicy_id. */
const POLICY_ID = 64;
/** struct xfrm_userpolicy_info, and where its selector's fields and its own are. */
const POLICY_INFO = 168;
const SOURCE = 16;
const FAMILY = 40;
const DESTINATION_LENGTH = 42;
const SOURCE_LENGTH = 43;
const DIRECTION = 160;
const ACTION = 161;
const XFRM_POLICY_OUT = 1;
const XFRM_POLICY_BLOCK = 1;
const XFRMA_TMPL = 5;

function prefixAt(payload: DataView, at: number, length: number): string {
  const bytes = new Uint8Array(payload.buffer, payload.byteOffset + at, 16);
  const address = payload.getUint16(FAMILY, true) === AF_INET ? bytes.subarray(0, 4).join(".") : readAddress(bytes);
  return `${address}/${payload.getUint8(length)}`;
}

/** Those of sockets are left out. Empty where the kernel knows nothing of IPsec. Rejects with KernelError. */
export async function outputPolicies(): Promise<OutputPolicy[]> {
  const subject = "IPsec policies";
  try {
    using dump = new NetlinkDump(NETLINK_XFRM, subject);
    return await dump.ask({ type: XFRM_MSG_GETPOLICY, payload: new Uint8Array(POLICY_ID), subject }, (payload) => {
      if (payload.byteLength < POLICY_INFO || payload.getUint8(DIRECTION) !== XFRM_POLICY_OUT) return undefined;
      return {
        source: prefixAt(payload, SOURCE, SOURCE_LENGTH),
        destination: prefixAt(payload, 0, DESTINATION_LENGTH),
        action:
          payload.getUint8(ACTION) === XFRM_POLICY_BLOCK
            ? "block"
            : findAttribute(payload, POLICY_INFO, XFRMA_TMPL) === undefined
              ? "allow"
              : "encrypt",
      };
    });
  } catch (error) {
    if (errnoOf(error) === EPROTONOSUPPORT) return [];
    throw error;
  }
}
