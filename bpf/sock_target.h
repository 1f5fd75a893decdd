/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a socket names when it connects or sends, and pointing it elsewhere (socket programs only, which supply ctx_t). */
#pragma once
#include "address.h"

struct target {
	struct address address;
	__be16 port;
	__u8 proto;
	__u8 pad;
	__u32 pad2;
};

/* What the socket names. `v6`: the program is one of those for IPv6. */
static __always_inline void target_read(ctx_t *ctx, struct target *target, const bool v6)
{
	if (v6) {
		target->address.half[0] = (__u64)ctx->user_ip6[0] | ((__u64)ctx->user_ip6[1] << 32);
		target->address.half[1] = (__u64)ctx->user_ip6[2] | ((__u64)ctx->user_ip6[3] << 32);
	} else {
		address_from_v4(&target->address, ctx->user_ip4);
	}
	target->port = (__be16)ctx->user_port;
	target->proto = (__u8)ctx->protocol;
}

static __always_inline void point_at(ctx_t *ctx, const struct address *address, __be16 port, const bool v6)
{
	if (v6) {
		ctx->user_ip6[0] = (__u32)address->half[0];
		ctx->user_ip6[1] = (__u32)(address->half[0] >> 32);
		ctx->user_ip6[2] = (__u32)address->half[1];
		ctx->user_ip6[3] = (__u32)(address->half[1] >> 32);
	} else {
		ctx->user_ip4 = address_to_v4(address);
	}
	ctx->user_port = port;
}
