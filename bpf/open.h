/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets that open a flow (tc only): which way it goes, and its two entries. Never decides whether a packet may open one. */
#pragma once
#include "finish.h"
#include "flow_open.h"
#include "fragment.h"
#include "frontend.h"
#include "leave.h"

/* An empty opening. */
static __always_inline struct opening *opening_get(void)
{
	struct scratch *x = scratch_get();

	if (!x)
		return NULL;
	__builtin_memset(&x->opening, 0, sizeof(x->opening));
	return &x->opening;
}

/* Opens the flow that the scratch's packet and opening say. Returns 0, a verdict, or UNDECIDED for a packet that goes on as it came. A
 * global function, for the verifier's sake.
 */
__noinline int make_flow(void)
{
	struct scratch *x = scratch_get();
	enum verdict verdict;
	struct pkt *p;
	bool created;

	if (!x)
		return DROP_TABLE_FULL;
	p = &x->packet;
	x->opening.midstream = !opens_handshake(p);
	if (x->opening.midstream && is_reset(p))
		verdict = DROP_PORT_UNKNOWN;
	else
		verdict = flow_open(&p->tuple, &x->opening, &x->flow, &created);
	if (verdict)
		return x->opening.bystander ? UNDECIDED : verdict;
	count_service(x->flow.service, p->length, created);
	if (p->piece == PIECE_FIRST)
		fragment_remember(p, &x->flow.write);
	return 0;
}

/* Sends the packet that opened the scratch's flow on. */
static __always_inline int send_first(ctx_t *ctx, const enum hook hook, const __u32 link)
{
	struct scratch *x = scratch_get();

	return x ? deliver(ctx, &x->packet, &x->flow, NULL, hook, link) : DROP_TABLE_FULL;
}

/* Asks for the route of the packet with this destination, into the scratch. Returns 0 or a verdict. */
static __always_inline enum verdict route_to_choice(ctx_t *ctx, struct pkt *p, const struct choice *choice, struct scratch *x)
{
	long result;

	x->route = p->tuple;
	x->route.destination = choice->address;
	x->route.destination_port = choice->port;
	result = route_lookup(ctx, p, &x->route, ctx_ifindex(ctx), &x->fib);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_TOO_BIG;
	return route_found(result) ? 0 : DROP_NO_ROUTE;
}

/* Which way a new flow goes: fills path and source. Returns 0 or a verdict. */
static __always_inline enum verdict choose_path(ctx_t *ctx, struct pkt *p, struct opening *opening, enum hook hook)
{
	const struct choice *choice = &opening->choice;
	struct scratch *x = scratch_get();
	enum verdict verdict;

	if (!x)
		return DROP_NO_ROUTE;
	if (hook == HOOK_POD_INGRESS) {
		if (!address_equal(&choice->address, &p->tuple.source)) {
			opening->path = PATH_POD;
			return 0;
		}
		opening->path = PATH_HAIRPIN;
		return route_source(ctx_ifindex(ctx), p->v6, &opening->source) ? 0 : DROP_NO_SOURCE_ADDRESS;
	}
	if (choice->local) {
		opening->path = hook == HOOK_UPLINK_EGRESS ? PATH_HOST_LOCAL : PATH_OUTSIDE_LOCAL;
		if (hook == HOOK_UPLINK_EGRESS && (address_roles(&choice->address) & ADDRESS_NODE))
			return DROP_HOST_TO_HOST;
		return 0;
	}
	verdict = route_to_choice(ctx, p, choice, x);
	if (verdict)
		return verdict;
	if (hook == HOOK_UPLINK_EGRESS) {
		/* The host's own address serves where it belongs; behind an overlay the far end would take it for a spoofed one. */
		opening->path = PATH_HOST_REMOTE;
		if (!route_source(x->fib.ifindex, p->v6, &opening->source) ||
		    address_equal(&opening->source, &p->tuple.source))
			__builtin_memset(&opening->source, 0, sizeof(opening->source));
		return 0;
	}
	opening->path = PATH_OUTSIDE_REMOTE;
	return route_source(x->fib.ifindex, p->v6, &opening->source) ? 0 : DROP_NO_SOURCE_ADDRESS;
}
