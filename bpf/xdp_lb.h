/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* XDP's share of the decisions: packets of known flows between outside and another node, whose next hop is known. All else, the
 * first packets of a flow and one a second of each (which tc sends by the kernel's neighbour code), reaches tc as it came.
 *
 *   known    the flow, and whether this packet belongs to it
 *   fits     for us, small enough, and by a device that takes frames from here
 *   forward  rewritten and sent
 */
#pragma once
#include "finish.h"
#include "known.h"
#include "rewrite.h"
#include "route.h"

/* The action that sends a frame out of `ifindex`. Every driver that runs XDP can send out of the device that the frame
 * came from; out of another only those that say so.
 */
static __always_inline int xdp_send(ctx_t *ctx, __u32 ifindex)
{
	return ctx_ifindex(ctx) == ifindex ? XDP_TX : (int)bpf_redirect(ifindex, 0);
}

static __always_inline bool xdp_can_send(ctx_t *ctx, const struct next_hop *hop)
{
	return ctx_ifindex(ctx) == hop->ifindex || (hop->flags & HOP_XDP_TARGET);
}

/* Frames for other machines reach us too, where a switch floods or a device listens to all. */
static __always_inline bool xdp_is_for_us(ctx_t *ctx, const struct next_hop *hop, const __u8 *destination)
{
	struct device *device;

	if (ctx_ifindex(ctx) == hop->ifindex)
		return mac_equal(destination, hop->source_mac);
	device = device_of(ctx_ifindex(ctx));
	return device && mac_equal(destination, device->mac);
}

static __always_inline enum verdict xdp_forward(ctx_t *ctx, struct pkt *p)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_get();
	enum flow_table table;
	struct flow *live, *f;
	struct next_hop hop;
	struct ethhdr *eth;

	if (!x || !s || p->kind != PACKET_FLOW || p->piece != PIECE_WHOLE || p->options || p->source_route)
		return VERDICT_NEXT;
	f = &x->flow;
	live = flow_find(&p->tuple, f, &table, p->stranger);
	if (!live || f->path != PATH_OUTSIDE_REMOTE || opens_anew(p, f, table) || flow_policy_changed(live, f))
		return VERDICT_NEXT;
	eth = ctx_at(ctx, 0, sizeof(*eth));
	if (!eth || !hop_known(live, f, &hop, jiffies_now(), s->hz) || p->ttl <= 1 || p->segment > hop.mtu ||
	    !xdp_can_send(ctx, &hop) || !xdp_is_for_us(ctx, &hop, eth->h_dest))
		return VERDICT_NEXT;
	if (!rewrite_tuple(ctx, p, &f->write, 1) || !write_macs(ctx, hop.destination_mac, hop.source_mac))
		return DROP_REWRITE;
	flow_advance(p, live, f, table);
	count_service(f->service, p->length, false);
	p->action = xdp_send(ctx, hop.ifindex);
	return VERDICT_FORWARD;
}
