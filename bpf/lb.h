/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The decision core, shared by tc and XDP: a packet's stages in order. Each stage returns a verdict, or UNDECIDED for the
 * next one. Replies are made at the end, of packets that are still as they came. XDP takes only what it can redirect (client
 * outside, backend elsewhere); all else passes it unchanged to tc.
 */
#pragma once
#include "finish.h"
#include "flow.h"
#include "frontend.h"
#include "quick.h"
#include "rewrite.h"
#include "route.h"
#if !CTX_IS_XDP
#include "icmp.h"
#include "neighbour.h"
#include "refuse.h"
#endif

#if CTX_IS_XDP
static __always_inline enum verdict send_frame(ctx_t *ctx, struct pkt *p, const struct flow *f, __u32 ifindex,
					       const __u8 *destination, const __u8 *source)
{
	if (!rewrite_tuple(ctx, p, &f->write, 1) || !write_macs(ctx, destination, source))
		return DROP_REWRITE;
	p->action = (int)bpf_redirect(ifindex, 0);
	return VERDICT_FORWARD;
}

/* Only a device that can send XDP frames, with its neighbour known: else tc gets the packet as it came. */
static __always_inline enum verdict leave_by_route(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_of(f);
	struct next_hop hop;
	struct device *out;

	if (p->ttl <= 1)
		return VERDICT_NEXT;
	if (live && s && hop_known(live, f, &hop, jiffies_now(), s->hz) && (hop.flags & HOP_XDP_TARGET) && p->segment <= hop.mtu)
		return send_frame(ctx, p, f, hop.ifindex, hop.destination_mac, hop.source_mac);
	if (route_lookup(ctx, p, &f->write, ctx_ifindex(ctx), &x->fib) != BPF_FIB_LKUP_RET_SUCCESS)
		return VERDICT_NEXT;
	out = device_of(x->fib.ifindex);
	if (!out || !(out->flags & DEVICE_XDP_TARGET))
		return VERDICT_NEXT;
	if (live)
		hop_remember(live, f, &x->fib, HOP_XDP_TARGET);
	return send_frame(ctx, p, f, x->fib.ifindex, x->fib.dmac, x->fib.smac);
}
#else
static __always_inline enum verdict leave_by_route(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live,
						   enum hook hook, const __u32 link)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_of(f);
	struct next_hop hop;
	struct device *out;
	long result;

	if (link && live && p->ttl > 1 && s && hop_known(live, f, &hop, jiffies_now(), s->hz) && p->segment <= hop.mtu) {
		if (!rewrite_tuple(ctx, p, &f->write, 1) || !write_macs(ctx, hop.destination_mac, hop.source_mac))
			return DROP_REWRITE;
		ctx_set_mark(ctx, MARK_REDIRECTED);
		p->action = (int)bpf_redirect(hop.ifindex, 0);
		return VERDICT_FORWARD;
	}
	result = route_lookup(ctx, p, &f->write, ctx_ifindex(ctx), &x->fib);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_TOO_BIG;
	if (!route_found(result))
		return DROP_NO_ROUTE;
	if (p->ttl <= 1)
		return DROP_TTL;
	out = device_of(x->fib.ifindex);
	if (link && live && result == BPF_FIB_LKUP_RET_SUCCESS && out && !(out->flags & DEVICE_NO_LINK_HEADER))
		hop_remember(live, f, &x->fib, out->flags & DEVICE_XDP_TARGET ? HOP_XDP_TARGET : 0);
	if (!rewrite_tuple(ctx, p, &f->write, 1))
		return DROP_REWRITE;
	return redirect_by_route(ctx, p, &x->fib, out, result, link);
}

/* A firewall that forwards nothing by default lets translated packets through by this mark. */
static __always_inline enum verdict leave_to_stack(ctx_t *ctx)
{
	const struct settings *s = settings_get();

	if (s && s->forward_mark)
		ctx_set_mark(ctx, ctx_mark(ctx) | s->forward_mark);
	return VERDICT_PASS;
}

/* A pod's translated packet goes on to the stack, unless its backend is behind the same bridge: then the bridge switches it,
 * so that netfilter sees both directions or none.
 */
static __always_inline enum verdict leave_pod(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_of(f);
	struct next_hop hop;
	struct device *port;
	struct ethhdr *eth;
	__u32 bridge;
	long result;

	if (!rewrite_tuple(ctx, p, &f->write, 0))
		return DROP_REWRITE;
	if (!live || !s || !hop_known(live, f, &hop, jiffies_now(), s->hz)) {
		port = device_of(ctx_ifindex(ctx));
		bridge = port ? port->master : 0;
		hop.flags = HOP_STACK;
		if (bridge) {
			result = route_lookup(ctx, p, &f->write, bridge, &x->fib);
			if (x->fib.ifindex == bridge && result == BPF_FIB_LKUP_RET_NO_NEIGH)
				return redirect_to_neighbour(ctx, p, &x->fib);
			if (x->fib.ifindex == bridge && result == BPF_FIB_LKUP_RET_SUCCESS)
				hop.flags = 0;
		} else {
			__builtin_memset(&x->fib, 0, sizeof(x->fib));
		}
		__builtin_memcpy(hop.destination_mac, x->fib.dmac, ETH_ALEN);
		if (live)
			hop_remember(live, f, &x->fib, hop.flags);
	}
	if (hop.flags & HOP_STACK)
		return leave_to_stack(ctx);
	eth = ctx_at(ctx, 0, sizeof(*eth));
	if (!eth)
		return DROP_REWRITE;
	__builtin_memcpy(eth->h_dest, hop.destination_mac, ETH_ALEN);
	return VERDICT_PASS;
}

static __always_inline enum verdict leave_to_host(ctx_t *ctx, struct pkt *p, const struct flow *f, const __u32 link)
{
	const struct settings *s = settings_get();

	if (!s || !rewrite_tuple(ctx, p, &f->write, 0))
		return DROP_REWRITE;
	return redirect_in(ctx, p, s->uplink, VERDICT_FORWARD, link);
}
#endif

/* Translates the packet as `f` says and sends it the way of the flow's path. `live` is the entry itself, for its next hop;
 * NULL for a flow's first packet.
 */
static __always_inline enum verdict deliver(ctx_t *ctx, struct pkt *p, struct flow *f, struct flow *live,
					    UNUSED enum hook hook, UNUSED const __u32 link)
{
#if CTX_IS_XDP
	return leave_by_route(ctx, p, f, live);
#else
	switch (hook) {
	case HOOK_UPLINK_INGRESS:
		if (f->path == PATH_OUTSIDE_REMOTE)
			return leave_by_route(ctx, p, f, live, hook, link);
		if (!rewrite_tuple(ctx, p, &f->write, 0))
			return DROP_REWRITE;
		return leave_to_stack(ctx);
	case HOOK_UPLINK_EGRESS:
		if (f->path == PATH_HOST_REMOTE || f->path == PATH_HOST_LOCAL)
			return leave_by_route(ctx, p, f, live, hook, link);
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
#endif
}

/* A packet of a flow that is known. UNDECIDED: there is none, or it ended and this packet opens another. */
static __always_inline enum verdict stage_known(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	struct scratch *x = scratch_get();
	enum flow_table table;
	enum verdict verdict;
	struct flow *live, *f;

	if (!x)
		return UNDECIDED;
	f = &x->flow;
	live = flow_find(&p->tuple, f, &table, p->stranger);
	if (!live)
		return UNDECIDED;
	if (path_hook(f->path, f->answer) != flow_hook(hook))
		return VERDICT_NEXT;
	if (CTX_IS_XDP && f->path != PATH_OUTSIDE_REMOTE)
		return VERDICT_NEXT;
	if (!f->answer && f->path != PATH_PORT_CHANGE) {
		if (p->tuple.proto == IPPROTO_UDP) {
			if (!backend_alive(f->backend, f->generation)) {
				flow_forget(&p->tuple, f, table);
				return UNDECIDED;
			}
		} else if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
			   (flow_ended(f->state) || !backend_alive(f->backend, f->generation))) {
			flow_forget(&p->tuple, f, table);
			return UNDECIDED;
		}
	}
	/* The tuple and the numbers of `p` stay as they arrived; only the packet changes. */
	verdict = deliver(ctx, p, f, live, hook, link);
	if (CTX_IS_XDP && verdict == VERDICT_NEXT)
		return verdict;
	/* The entry may have been evicted meanwhile; its element is not freed while we run, and a wrong word does no harm. */
	flow_advance(p, live, f, table);
	count_service(f->service, p->length, false);
	return verdict;
}

/* Opens the flow that the scratch's packet and opening say, and sends the packet on. A global function, verified once a program
 * and not for every way that leads to it; before 5.12 those take nothing but the context and numbers.
 */
__noinline int stage_open(ctx_t *ctx, __u32 hook, __u32 link)
{
	struct scratch *x = scratch_get();
	enum verdict verdict;
	struct pkt *p;
	bool created;

	if (!x)
		return DROP_TABLE_FULL;
	p = &x->packet;
	x->opening.midstream = p->tuple.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN;
	if (x->opening.midstream && (p->tcp_flags & TCP_RST))
		return DROP_PORT_UNKNOWN;
	/* What XDP has no use for the compiler would leave out in calls, and the verifier wants every argument set. */
	asm volatile("" : : "r"(hook), "r"(link));
	verdict = flow_open(&p->tuple, &x->opening, &x->flow, &created);
	if (verdict)
		return verdict;
	count_service(x->flow.service, p->length, created);
#if !CTX_IS_XDP
	if (!address_is_set(&x->opening.source)) {
		struct met_backend *backend = backend_met(&x->opening.choice.address, x->opening.choice.port, p->tuple.proto);

		if (backend)
			backend->met = 1;
	}
#endif
	return deliver(ctx, p, &x->flow, NULL, hook, link);
}

/* An empty opening. */
static __always_inline struct opening *opening_get(void)
{
	struct scratch *x = scratch_get();

	if (!x)
		return NULL;
	__builtin_memset(&x->opening, 0, sizeof(x->opening));
	return &x->opening;
}

/* Which way a new flow goes: fills path and source. Returns 0 or a verdict. */
static __always_inline enum verdict choose_path(ctx_t *ctx, struct pkt *p, struct opening *opening, enum hook hook,
						UNUSED const __u32 link)
{
	const struct choice *choice = &opening->choice;

	if (hook == HOOK_POD_INGRESS) {
		if (!address_equal(&choice->address, &p->tuple.source)) {
			opening->path = PATH_POD;
			return 0;
		}
		opening->path = PATH_HAIRPIN;
		return route_source(ctx_ifindex(ctx), p->v6, &opening->source) ? 0 : DROP_NO_SOURCE_ADDRESS;
	}
	if (hook == HOOK_UPLINK_EGRESS) {
		opening->path = choice->local ? PATH_HOST_LOCAL : PATH_HOST_REMOTE;
		return choice->local && (address_roles(&choice->address) & ADDRESS_NODE) ? DROP_HOST_TO_HOST : 0;
	}
	if (choice->local) {
		opening->path = PATH_OUTSIDE_LOCAL;
		return 0;
	}
	struct scratch *x = scratch_get();
	long result;

	opening->path = PATH_OUTSIDE_REMOTE;
	if (!x)
		return DROP_NO_ROUTE;
	x->outer = p->tuple;
	x->outer.destination = choice->address;
	x->outer.destination_port = choice->port;
	result = route_lookup(ctx, p, &x->outer, ctx_ifindex(ctx), &x->fib);
#if CTX_IS_XDP
	if (result != BPF_FIB_LKUP_RET_SUCCESS)
		return DROP_NO_ROUTE;
#else
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_TOO_BIG;
	if (!route_found(result))
		return DROP_NO_ROUTE;
#endif
	return route_source(x->fib.ifindex, p->v6, &opening->source) ? 0 : DROP_NO_SOURCE_ADDRESS;
}

#if CTX_IS_XDP
/* Opens only what XDP can carry. Refusals and drops are tc's, which sees the packet next. */
static __always_inline enum verdict stage_frontend(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	struct opening *opening = opening_get();
	struct row *row;
	__u32 roles = 0;
	__u64 window;

	if (!opening || frontend_find(&p->tuple.destination, p->tuple.destination_port, p->tuple.proto, false, &row, &roles) !=
	    FRONTEND_FOUND)
		return VERDICT_NEXT;
	window = frontend_window(row, true);
	if (!(window >> 32) || select_backend(row, window, tuple_hash(&p->tuple), &opening->choice) ||
	    opening->choice.local || choose_path(ctx, p, opening, hook, link))
		return VERDICT_NEXT;
	return stage_open(ctx, hook, link);
}
#else
/* A UDP conversation that outlives its backend: sent on to a live backend of the same Service, with answers from the address
 * that the client knows.
 */
static __always_inline enum verdict stage_retired(ctx_t *ctx, struct pkt *p, const __u32 link)
{
	const struct settings *s = settings_get();
	struct frontend_key key = {};
	struct opening *opening = opening_get();
	struct retired_backend *gone;
	enum verdict verdict;
	struct row *row;
	__u32 index;
	__u64 window;

	key.address = p->tuple.destination;
	key.port = p->tuple.destination_port;
	key.proto = p->tuple.proto;
	gone = bpf_map_lookup_elem(&retired, &key);
	if (!gone || !s || !opening || jiffies_now() - gone->seen > s->udp_timeout * s->hz)
		return VERDICT_NEXT;
	index = gone->row;
	row = bpf_map_lookup_elem(&rows, &index);
	if (!row || row->generation != gone->generation)
		return VERDICT_NEXT;
	window = *(volatile __u64 *)&row->window[WINDOW_CLUSTER];
	if (!(window >> 32))
		return VERDICT_NEXT;
	/* Of a Service that went the row may be left, with nothing behind it. */
	if (select_backend(row, window, tuple_hash(&p->tuple), &opening->choice))
		return VERDICT_NEXT;
	verdict = choose_path(ctx, p, opening, HOOK_POD_INGRESS, link);
	if (verdict)
		return verdict;
	return stage_open(ctx, HOOK_POD_INGRESS, link);
}

/* A packet straight to a backend, of a client that talks with it through a frontend too and from the same port: the answers of
 * both would look alike, so this conversation gets another source port. Asked of what may open one only.
 */
static __always_inline enum verdict stage_direct(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	struct scratch *x = scratch_get();
	const struct settings *s = settings_get();
	struct opening *opening;
	enum flow_table table;
	struct met_backend *backend;

	if (p->tuple.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return UNDECIDED;
	/* A packet that another build has just translated goes straight to its backend too. */
	if (!s || s->handover)
		return UNDECIDED;
	backend = backend_met(&p->tuple.destination, p->tuple.destination_port, p->tuple.proto);
	if (!x || !backend || !backend->met)
		return UNDECIDED;
	tuple_reverse(&p->tuple, &x->outer);
	if (!flow_find(&x->outer, &x->flow, &table, false) || !x->flow.answer || path_translates_source(x->flow.path))
		return UNDECIDED;
	opening = opening_get();
	if (!opening)
		return DROP_TABLE_FULL;
	opening->path = hook == HOOK_UPLINK_INGRESS ? PATH_OUTSIDE_LOCAL :
			hook == HOOK_POD_INGRESS    ? PATH_POD :
						      PATH_PORT_CHANGE;
	if (hook == HOOK_UPLINK_EGRESS)
		opening->source = p->tuple.source;
	opening->choice.address = p->tuple.destination;
	opening->choice.port = p->tuple.destination_port;
	opening->choice.backend = x->flow.backend;
	opening->choice.generation = x->flow.generation;
	opening->choice.service = x->flow.service;
	return stage_open(ctx, hook, link);
}

static __always_inline bool port_is_for_snat(__be16 port)
{
	const struct settings *s = settings_get();

	return s && (__u32)bpf_ntohs(port) - s->snat_first < s->snat_count;
}

/* A packet without a flow: is its destination a frontend, and what becomes of it? */
static __always_inline enum verdict stage_frontend(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	struct opening *opening = opening_get();
	enum verdict verdict;
	struct row *row;
	__u32 roles = 0;
	__u64 window;

	switch (frontend_find(&p->tuple.destination, p->tuple.destination_port, p->tuple.proto, false, &row, &roles)) {
	case FRONTEND_NONE:
		verdict = stage_direct(ctx, p, hook, link);
		if (verdict != UNDECIDED)
			return verdict;
		if (hook == HOOK_POD_INGRESS && p->tuple.proto == IPPROTO_UDP)
			return stage_retired(ctx, p, link);
		return VERDICT_NEXT;
	case FRONTEND_UNDEFINED:
		return VERDICT_REFUSE;
	case FRONTEND_FREE_ADDRESS:
		return DROP_FREE_SERVICE_ADDRESS;
	case FRONTEND_STALE:
		return DROP_STALE_ROW;
	case FRONTEND_FOUND:
		break;
	}
	if (!opening)
		return DROP_TABLE_FULL;
	window = frontend_window(row, hook == HOOK_UPLINK_INGRESS);
	if (!(window >> 32))
		return (__u32)window == EMPTY_DROP ? DROP_NO_LOCAL_BACKEND : VERDICT_REFUSE;
	verdict = select_backend(row, window, tuple_hash(&p->tuple), &opening->choice);
	if (verdict)
		return verdict;
	verdict = choose_path(ctx, p, opening, hook, link);
	if (verdict)
		return verdict;
	return stage_open(ctx, hook, link);
}

/* Fragments of translated traffic are dropped by name: a later one carries no ports. */
static __always_inline enum verdict stage_fragment(struct pkt *p, enum hook hook, bool forward)
{
	struct scratch *x = scratch_get();
	enum flow_table table;
	struct row *row;
	__u32 roles = 0;

	if (!x)
		return DROP_FRAGMENT_BEFORE_FIRST;
	if (p->tuple.source_port || p->tuple.destination_port) {
		if (flow_find(&p->tuple, &x->flow, &table, false) && path_hook(x->flow.path, x->flow.answer) == hook)
			return DROP_FRAGMENT_BEFORE_FIRST;
		if (forward && frontend_find(&p->tuple.destination, p->tuple.destination_port, p->tuple.proto, false, &row,
					     &roles) != FRONTEND_NONE)
			return DROP_FRAGMENT_BEFORE_FIRST;
	} else if (forward && (address_roles(&p->tuple.destination) & ADDRESS_REFUSE)) {
		return DROP_FRAGMENT_BEFORE_FIRST;
	}
	return VERDICT_NEXT;
}

/* Echo is answered where ports are refused. */
static __always_inline enum verdict stage_echo(const struct pkt *p)
{
	__u32 roles = address_roles(&p->tuple.destination);

	if (roles & ADDRESS_REFUSE)
		return VERDICT_ECHO;
	return !roles && address_in_service_range(&p->tuple.destination) ? DROP_FREE_SERVICE_ADDRESS : VERDICT_NEXT;
}

/* An ICMP error, or redirect, about a flow that is known. Global for the verifier's sake, as stage_open. */
__noinline int stage_icmp(ctx_t *ctx, __u32 hook, __u32 link)
{
	struct scratch *x = scratch_get();
	enum flow_table table;
	__u32 inner_l4 = 0;
	bool redirected;
	long result = 0;
	struct pkt *p;
	struct flow *f;

	if (!x)
		return VERDICT_NEXT;
	p = &x->packet;
	f = &x->flow;
	if (!icmp_quoted(ctx, p, &x->quoted, &inner_l4))
		return VERDICT_NEXT;
	tuple_reverse(&x->quoted, &x->partner_key);
	if (!flow_find(&x->partner_key, f, &table, false) || path_hook(f->path, f->answer) != hook)
		return VERDICT_NEXT;
	if (p->kind == PACKET_ICMP_REDIRECT)
		return DROP_ICMP_REDIRECT;
	if (!address_equal(&p->tuple.destination, &x->partner_key.destination))
		return VERDICT_NEXT;
	tuple_reverse(&f->write, &x->original);
	x->outer = p->tuple;
	if (address_equal(&p->tuple.source, &x->partner_key.source))
		x->outer.source = f->write.source;
	x->outer.destination = f->write.destination;
	redirected = f->path == PATH_OUTSIDE_REMOTE || (hook == HOOK_UPLINK_EGRESS && f->path != PATH_OUTSIDE_LOCAL);
	if (redirected) {
		result = route_lookup(ctx, p, &x->outer, ctx_ifindex(ctx), &x->fib);
		if (!route_found(result))
			return DROP_NO_ROUTE;
		if (p->ttl <= 1)
			return DROP_TTL;
	}
	if (!icmp_rewrite(ctx, p, &x->quoted, &x->original, &x->outer, inner_l4, redirected))
		return DROP_REWRITE;
	p->action = TC_ACT_UNSPEC;
	if (redirected) {
		enum verdict verdict = redirect_by_route(ctx, p, &x->fib, device_of(x->fib.ifindex), result, link);

		return verdict == VERDICT_FORWARD ? VERDICT_ICMP : verdict;
	}
	if (f->path == PATH_HAIRPIN)
		return redirect_back(ctx, p, VERDICT_ICMP, link);
	if (hook == HOOK_POD_INGRESS && f->path == PATH_HOST_LOCAL) {
		const struct settings *s = settings_get();

		return s ? redirect_in(ctx, p, s->uplink, VERDICT_ICMP, link) : DROP_NO_ROUTE;
	}
	return VERDICT_ICMP;
}

/* A packet of this node's own address and one of our source ports, that is not ours (a masquerade, a connection older than
 * the reservation): if its answers would be taken for those of a translated flow, it gets another port.
 */
static __always_inline enum verdict stage_port_change(ctx_t *ctx, struct pkt *p, const __u32 link)
{
	struct opening *opening = opening_get();
	struct scratch *x = scratch_get();
	enum flow_table table;

	if (!opening || !x || !port_is_for_snat(p->tuple.source_port) || !(address_roles(&p->tuple.source) & ADDRESS_NODE))
		return UNDECIDED;
	tuple_reverse(&p->tuple, &x->outer);
	if (!flow_find(&x->outer, &x->flow, &table, false) || !path_translates_source(x->flow.path))
		return UNDECIDED;
	opening->path = PATH_PORT_CHANGE;
	opening->choice.address = p->tuple.destination;
	opening->choice.port = p->tuple.destination_port;
	opening->choice.service = x->flow.service;
	opening->source = p->tuple.source;
	return stage_open(ctx, HOOK_UPLINK_EGRESS, link);
}
#endif

/* What came from the client's side: an uplink's ingress, a pod device's ingress, or a local packet at an uplink's egress. */
static __always_inline enum verdict lb_forward(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	enum verdict verdict;

	switch (p->kind) {
	case PACKET_FLOW:
		verdict = stage_known(ctx, p, hook, link);
		if (verdict != UNDECIDED)
			return verdict;
#if !CTX_IS_XDP
		if (hook == HOOK_UPLINK_EGRESS) {
			verdict = stage_port_change(ctx, p, link);
			if (verdict != UNDECIDED)
				return verdict;
		}
#endif
		return stage_frontend(ctx, p, hook, link);
#if !CTX_IS_XDP
	case PACKET_FRAGMENT:
		return stage_fragment(p, hook, true);
	case PACKET_ECHO_REQUEST:
		return stage_echo(p);
	case PACKET_ICMP_ERROR:
	case PACKET_ICMP_REDIRECT:
		return stage_icmp(ctx, hook, link);
	case PACKET_ARP:
		return hook == HOOK_UPLINK_INGRESS && link ? answer_arp(ctx) : VERDICT_NEXT;
	case PACKET_NEIGHBOUR_SOLICITATION:
		return hook == HOOK_UPLINK_INGRESS ? answer_neighbour(ctx, link) : VERDICT_NEXT;
	case PACKET_NEIGHBOUR_ADVERTISEMENT:
		if (hook == HOOK_UPLINK_INGRESS && link)
			neighbour_advertised(ctx, p);
		return VERDICT_NEXT;
#endif
	}
	return VERDICT_NEXT;
}

#if !CTX_IS_XDP
/* What goes out toward the client without being able to open anything: answers only. */
static __always_inline enum verdict lb_answer(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	enum verdict verdict;

	switch (p->kind) {
	case PACKET_FLOW:
		verdict = stage_known(ctx, p, hook, link);
		return verdict == UNDECIDED ? VERDICT_NEXT : verdict;
	case PACKET_FRAGMENT:
		return stage_fragment(p, hook, false);
	case PACKET_ICMP_ERROR:
	case PACKET_ICMP_REDIRECT:
		return stage_icmp(ctx, hook, link);
	}
	return VERDICT_NEXT;
}

/* Makes the reply that `verdict` calls for. */
static __always_inline enum verdict lb_reply(ctx_t *ctx, const struct scratch *x, enum verdict verdict, enum hook hook,
					     const __u32 link)
{
	switch (verdict) {
	case VERDICT_REFUSE:
		return x->packet.tuple.proto == IPPROTO_TCP ? refuse_tcp(ctx, hook, link) : reply_icmp(ctx, hook, 0, link);
	case VERDICT_TOO_BIG:
		return reply_icmp(ctx, hook, x->fib.mtu_result, link);
	case VERDICT_ECHO:
		return reply_echo(ctx, hook, link);
	default:
		return verdict;
	}
}
#endif
