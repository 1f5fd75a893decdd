/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The XDP context: what the decision core needs of an xdp_md. The tc twin is skb.h. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

typedef struct xdp_md ctx_t;

#define CTX_IS_XDP 1
#define CTX_PASS XDP_PASS

/* Loads in assembly: the compiler would keep the address of the field, and the verifier allows only the context itself. */
static __always_inline void *ctx_data(ctx_t *ctx)
{
	void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(data) : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, data)));
	return data;
}

static __always_inline void *ctx_data_end(ctx_t *ctx)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(end) : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, data_end)));
	return end;
}

/* Headers end well before this; the mask tells the verifier so, which forgets bounds of spilled 32-bit words before 5.13. */
#define OFFSET_MASK 0x7ff

/* `size` readable and writable bytes at `offset`, or NULL. */
static __always_inline void *ctx_at(ctx_t *ctx, __u64 offset, const __u32 size)
{
	void *at;

	if (!__builtin_constant_p(offset))
		asm volatile("%0 &= %1" : "+r"(offset) : "i"(OFFSET_MASK));
	at = ctx_data(ctx) + offset;
	return at + size <= ctx_data_end(ctx) ? at : NULL;
}

static __always_inline __u32 ctx_gso_size(ctx_t *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline __be16 ctx_protocol(ctx_t *ctx)
{
	(void)ctx;
	return 0;
}

static __always_inline __u32 ctx_ifindex(ctx_t *ctx)
{
	return ctx->ingress_ifindex;
}
