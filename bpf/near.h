/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a packet is worth a look at all, told by a few words before any hash lookup: most packets of a cluster are none of
 * ours. It may only err toward looking closer. src/datapath/near.ts reckons the same.
 */
#pragma once
#include <linux/in.h>
#include "maps.h"
#include "address.h"

/* Of an address: independent multiplications of its four words in host order. What varies in a cluster is the last bytes, which as the
 * words' low ones reach all bits above. Of IPv4 only the last word varies.
 */
static __always_inline __u32 near_sum(const struct address *address)
{
	__u64 high = __builtin_bswap64(address->half[0]), low = __builtin_bswap64(address->half[1]);

	return (__u32)(high >> 32) * 0x9e3779b1U + (__u32)high * 0x85ebca77U + (__u32)(low >> 32) * 0xc2b2ae3dU +
	       (__u32)low * 0x27d4eb2fU;
}

static __always_inline __u32 near_mix(__u32 sum)
{
	sum ^= sum >> 15;
	return sum * 0x2c1b3c6dU;
}

/* The flags of the bucket of the address that `sum` was made of. */
static __always_inline __u32 near_flags(__u32 sum)
{
	__u32 bucket = near_mix(sum) >> (32 - NEAR_BUCKET_BITS), index = bucket >> 4;
	struct near_word *word = bpf_map_lookup_elem(&near, &index);

	return word ? (__u32)(word->bits >> ((bucket & 15) * 4)) & 15 : NEAR_FRONTEND;
}

/* May a backend be at `port`, in network order, of the address that `sum` was made of? */
static __always_inline bool near_is_backend(__u32 sum, __be16 port)
{
	return near_flags(sum + (__u32)port * 0x165667b1U) & NEAR_BACKEND;
}

/* May a node port or host port be at `port`, in network order? */
static __always_inline bool near_port(__be16 port, __u8 proto)
{
	__u32 number = __builtin_bswap16(port);
	__u32 index = NEAR_ADDRESS_WORDS + (proto == IPPROTO_TCP ? 0 : NEAR_PORT_WORDS) + (number >> 6);
	struct near_word *word = bpf_map_lookup_elem(&near, &index);

	return !word || (word->bits >> (number & 63)) & 1;
}

/* The element of `met_backends` for flows whose answers `hook` sees, of the backend at `port`, in network order, of the address that
 * `sum` was made of.
 */
static __always_inline struct met_backend *near_backend(__u32 sum, __be16 port, __u8 proto, enum hook hook)
{
	__u32 index = near_mix(sum + ((__u32)port | (__u32)proto << 16 | (__u32)hook << 24) * 0x165667b1U) >> (32 - MET_BITS);

	return bpf_map_lookup_elem(&met_backends, &index);
}
