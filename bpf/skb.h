/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tc context: what the decision core needs of a __sk_buff. The XDP twin is xdp.h. */
#pragma once
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

typedef struct __sk_buff ctx_t;

#define CTX_IS_XDP 0
#define CTX_PASS TC_ACT_UNSPEC

/* Loads in assembly: the compiler would keep the address of the field, and the verifier allows only the context itself. */
static __always_inline void *ctx_data(ctx_t *ctx)
{
	void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(data) : "r"(ctx), "i"(__builtin_offsetof(struct __sk_buff, data)));
	return data;
}

static __always_inline void *ctx_data_end(ctx_t *ctx)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(end) : "r"(ctx), "i"(__builtin_offsetof(struct __sk_buff, data_end)));
	return end;
}

/* Headers end well before this; the mask tells the verifier so, which forgets bounds of spilled 32-bit words before 5.13. */
#define OFFSET_MASK 0x7ff

/* `size` readable and writable bytes at `offset`, or NULL. Pulls them into the linear part when needed: every pointer
 * obtained before is then invalid.
 */
static __always_inline void *ctx_at(ctx_t *ctx, __u64 offset, const __u32 size)
{
	void *at;

	if (!__builtin_constant_p(offset))
		asm volatile("%0 &= %1" : "+r"(offset) : "i"(OFFSET_MASK));
	at = ctx_data(ctx) + offset;
	if (at + size <= ctx_data_end(ctx))
		return at;
	if (bpf_skb_pull_data(ctx, (__u32)offset + size))
		return NULL;
	at = ctx_data(ctx) + offset;
	return at + size <= ctx_data_end(ctx) ? at : NULL;
}

static __always_inline __u32 ctx_gso_size(ctx_t *ctx)
{
	return ctx->gso_size;
}

static __always_inline __be16 ctx_protocol(ctx_t *ctx)
{
	return (__be16)ctx->protocol;
}

/* The device whose program runs. */
static __always_inline __u32 ctx_ifindex(ctx_t *ctx)
{
	return ctx->ifindex;
}

/* Is the frame addressed to this device's MAC? */
static __always_inline bool ctx_is_for_host(ctx_t *ctx)
{
	return ctx->pkt_type == 0; /* PACKET_HOST */
}

static __always_inline __u32 ctx_mark(ctx_t *ctx)
{
	__u32 mark;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(mark) : "r"(ctx), "i"(__builtin_offsetof(struct __sk_buff, mark)));
	return mark;
}

static __always_inline void ctx_set_mark(ctx_t *ctx, __u32 mark)
{
	asm volatile("*(u32 *)(%0 + %2) = %1"
		     :
		     : "r"(ctx), "r"(mark), "i"(__builtin_offsetof(struct __sk_buff, mark))
		     : "memory");
}
