/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets that name their own way, which nobody takes through a frontend (tc only). */
#pragma once
#include "scratch.h"

#define OPTION_NOP 1
#define OPTION_LSRR 131
#define OPTION_SSRR 137
#define OPTIONS_MAX 40

/* 1 when they are the same. Without a branch, so that the verifier walks one way round a loop. */
static __always_inline __u32 same(__u32 a, __u32 b)
{
	return ((a ^ b) - 1) >> 31;
}

/* Does the packet name its own way (RFC 7126 section 4.3, RFC 5095)? Through a frontend nobody is to be routed so. A global
 * function for the verifier's sake.
 */
__noinline int is_source_routed(ctx_t *ctx)
{
	struct scratch *x = scratch_get();
	__u32 at = 0, found = 0;
	__u64 length;
	__u8 *options;

	if (!x)
		return 0;
	if (x->packet.source_route)
		return 1;
	length = x->packet.options;
	if (!length)
		return 0;
	__builtin_memset(x->words, 0, sizeof(x->words));
	length -= 4;
	asm volatile("%0 &= 63" : "+r"(length));
	if (length > OPTIONS_MAX - 4 ||
	    bpf_skb_load_bytes(ctx, x->packet.l3 + sizeof(struct iphdr), x->words, (__u32)length + 4))
		return 1;
	options = (__u8 *)x->words;
	/* At the end of the list, and at an option without a length, it stays where it is. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < OPTIONS_MAX; i++) {
		__u32 type, step, nop;

		at &= 63;
		type = options[at];
		step = options[at + 1];
		nop = same(type, OPTION_NOP);
		found |= same(type, OPTION_LSRR) | same(type, OPTION_SSRR);
		at += nop + step * (1 - nop) * (1 - same(type, 0));
	}
	return (int)found;
}
