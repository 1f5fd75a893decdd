/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a translated packet leaves (tc only): rewritten, and then on to the stack, switched by its bridge, redirected by route, or
 * brought in again. Once a second a flow's packet goes by the kernel's neighbour code, so that a MAC that changed is noticed.
 */
#pragma once
#include "flow.h"
#include "rewrite.h"
#include "route.h"

static __always_inline enum verdict leave_by_route(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live,
						   const __u32 link)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_of(f);
	struct next_hop *hop = &x->hop;
	struct device *out;
	long result;

	if (link && live && p->ttl > 1 && s && hop_known(live, f, hop, jiffies_now(), s->hz) && p->segment <= hop->mtu) {
		if (!rewrite_tuple(ctx, p, &f->write, 1) || !write_macs(ctx, hop->destination_mac, hop->source_mac))
			return DROP_REWRITE;
		ctx_set_mark(ctx, MARK_REDIRECTED);
		p->action = (int)bpf_redirect(hop->ifindex, 0);
		return VERDICT_FORWARD;
	}
	result = route_lookup(ctx, p, &f->write, ctx_ifindex(ctx), &x->fib);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_TOO_BIG;
	if (!route_found(result))
		return DROP_NO_ROUTE;
	if (p->ttl <= 1)
		return VERDICT_TIME_EXCEEDED;
	out = device_of(x->fib.ifindex);
	if (link && live && result == BPF_FIB_LKUP_RET_SUCCESS && out && !(out->flags & DEVICE_NO_LINK_HEADER))
		hop_remember(live, f, out->flags & DEVICE_XDP_TARGET ? HOP_XDP_TARGET : 0);
	if (!rewrite_tuple(ctx, p, &f->write, 1))
		return DROP_REWRITE;
	return redirect_by_route(ctx, p, &x->fib, result, link);
}

/* A firewall that forwards nothing by default lets translated packets through by this mark. */
static __always_inline enum verdict leave_to_stack(ctx_t *ctx)
{
	const struct settings *s = settings_get();

	if (s && s->forward_mark)
		ctx_set_mark(ctx, ctx_mark(ctx) | s->forward_mark);
	return VERDICT_PASS;
}

static __always_inline bool address_frame(ctx_t *ctx, const __u8 *mac)
{
	struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth));

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
	return true;
}

/* A pod's translated packet goes on to the stack, unless its backend is behind the same bridge: then the bridge switches it, so that
 * netfilter sees both directions or none (where bridges call iptables, both: so it is never redirected past it). A frame for the
 * stack bears the MAC that the pod's frames for this machine bear; the hop remembers that one as the source MAC.
 */
static __always_inline enum verdict leave_pod(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_of(f);
	struct next_hop *hop = &x->hop;
	struct device *port;
	bool switched = false;
	__u32 bridge;
	long result;

	if (!rewrite_tuple(ctx, p, &f->write, 0))
		return DROP_REWRITE;
	if (live && s && hop_known(live, f, hop, jiffies_now(), s->hz)) {
		switched = !(hop->flags & HOP_STACK);
		if (!address_frame(ctx, switched ? hop->destination_mac : hop->source_mac))
			return DROP_REWRITE;
		return switched ? VERDICT_PASS : leave_to_stack(ctx);
	}
	port = device_of(ctx_ifindex(ctx));
	if (!port)
		return leave_to_stack(ctx);
	bridge = port->master;
	__builtin_memset(&x->fib, 0, sizeof(x->fib));
	if (bridge) {
		result = route_lookup(ctx, p, &f->write, bridge, &x->fib);
		if (x->fib.ifindex == bridge && result == BPF_FIB_LKUP_RET_NO_NEIGH)
			return redirect_to_neighbour(ctx, p, &x->fib);
		switched = x->fib.ifindex == bridge && result == BPF_FIB_LKUP_RET_SUCCESS;
	}
	__builtin_memcpy(x->fib.smac, port->accepts, ETH_ALEN);
	if (live)
		hop_remember(live, f, switched ? 0 : HOP_STACK);
	if (!address_frame(ctx, switched ? x->fib.dmac : x->fib.smac))
		return DROP_REWRITE;
	return switched ? VERDICT_PASS : leave_to_stack(ctx);
}

static __always_inline enum verdict leave_to_host(ctx_t *ctx, struct pkt *p, const struct flow *f, const __u32 link)
{
	const struct settings *s = settings_get();

	if (!s || !rewrite_tuple(ctx, p, &f->write, 0))
		return DROP_REWRITE;
	return redirect_in(ctx, p, s->uplink, VERDICT_FORWARD, link);
}

/* Translates the packet as `f` says and sends it the way of the flow's path. `live` is the entry itself, for its next hop;
 * NULL for a flow's first packet.
 */
static __always_inline enum verdict deliver(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live, enum hook hook,
					    const __u32 link)
{
	if (checksum_is_elsewhere(p, &f->write))
		return DROP_SCTP_FRAGMENT;
	switch (hook) {
	case HOOK_UPLINK_INGRESS:
		if (f->path == PATH_OUTSIDE_REMOTE)
			return leave_by_route(ctx, p, f, live, link);
		if (!rewrite_tuple(ctx, p, &f->write, 0))
			return DROP_REWRITE;
		return leave_to_stack(ctx);
	case HOOK_UPLINK_EGRESS:
		if (f->path == PATH_HOST_REMOTE || f->path == PATH_HOST_LOCAL)
			return leave_by_route(ctx, p, f, live, link);
		break;
	case HOOK_POD_INGRESS:
		if (f->path == PATH_POD)
			return leave_pod(ctx, p, f, live);
		if (f->path == PATH_HAIRPIN) {
			if (!rewrite_tuple(ctx, p, &f->write, 0))
				return DROP_REWRITE;
			return redirect_back(ctx, p, VERDICT_FORWARD, link);
		}
		return leave_to_host(ctx, p, f, link);
	default:
		break;
	}
	return rewrite_tuple(ctx, p, &f->write, 0) ? VERDICT_PASS : DROP_REWRITE;
}
