/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The decision core of tc: a packet's stages in order. Each stage returns a verdict, or UNDECIDED for the next one. Replies are
 * made at the end, of packets that are still as they came. XDP has the first of these stages, in xdp_lb.h.
 */
#pragma once
#include "finish.h"
#include "icmp.h"
#include "known.h"
#include "liveness.h"
#include "neighbour.h"
#include "refuse.h"
#include "request.h"

/* A packet of a flow that is known. UNDECIDED: there is none, or it ended and this packet opens another. */
static __always_inline int known(ctx_t *ctx, enum hook hook, const __u32 link)
{
	struct scratch *x = scratch_get();
	enum flow_table table;
	enum verdict verdict;
	struct flow *live, *f;
	struct pkt *p;
	__u32 policy;

	if (!x)
		return UNDECIDED;
	p = &x->packet;
	f = &x->flow;
	live = flow_find(&p->tuple, f, &table, p->stranger);
	if (!live)
		return UNDECIDED;
	p->service = f->service;
	if (opens_anew(p, f, table)) {
		flow_forget(&p->tuple, f, table);
		return UNDECIDED;
	}
	if (flow_policy_changed(live, f)) {
		policy = policy_count(f->service);
		verdict = source_verdict(hook == HOOK_POD_INGRESS && p->tuple.proto == IPPROTO_UDP && socket_asked(ctx));
		if (verdict)
			return verdict;
		if (flow_is_still(live, f))
			RECORD(live->policy, policy);
	}
	if ((p->options || p->source_route) && !f->answer && f->path != PATH_PORT_CHANGE && is_source_routed(ctx))
		return DROP_SOURCE_ROUTE;
	if (p->piece == PIECE_FIRST)
		fragment_remember(p, &f->write);
	/* The tuple and the numbers of `p` stay as they arrived; only the packet changes. */
	verdict = deliver(ctx, p, f, live, hook, link);
	flow_advance(p, live, f, table);
	count_service(f->service, p->length, false);
	return verdict;
}

/* Global functions, which the verifier walks once a program and not for every way that leads to them; one for each program, which so
 * has no ways but its own. Before 5.12 they take nothing but the context and numbers.
 */
#define STAGES(name, hook, link)                            \
	__noinline int known_##name(struct __sk_buff *ctx)  \
	{                                                   \
		return known(ctx, hook, link);              \
	}                                                   \
	__noinline int send_##name(struct __sk_buff *ctx)   \
	{                                                   \
		return send_first(ctx, hook, link);         \
	}

STAGES(uplink_ingress, HOOK_UPLINK_INGRESS, ETH_HLEN)
STAGES(uplink_in_l3, HOOK_UPLINK_INGRESS, 0)
STAGES(uplink_egress, HOOK_UPLINK_EGRESS, ETH_HLEN)
STAGES(uplink_out_l3, HOOK_UPLINK_EGRESS, 0)
STAGES(pod_ingress, HOOK_POD_INGRESS, ETH_HLEN)

__noinline int known_pod_egress(struct __sk_buff *ctx)
{
	return known(ctx, HOOK_POD_EGRESS, ETH_HLEN);
}

static __always_inline int stage_known(ctx_t *ctx, const enum hook hook, const __u32 link)
{
	switch (hook) {
	case HOOK_UPLINK_INGRESS:
		return link ? known_uplink_ingress(ctx) : known_uplink_in_l3(ctx);
	case HOOK_UPLINK_EGRESS:
		return link ? known_uplink_egress(ctx) : known_uplink_out_l3(ctx);
	case HOOK_POD_INGRESS:
		return known_pod_ingress(ctx);
	default:
		return known_pod_egress(ctx);
	}
}

static __always_inline int stage_open(ctx_t *ctx, const enum hook hook, const __u32 link)
{
	int verdict = make_flow();

	if (verdict)
		return verdict;
	switch (hook) {
	case HOOK_UPLINK_INGRESS:
		return link ? send_uplink_ingress(ctx) : send_uplink_in_l3(ctx);
	case HOOK_UPLINK_EGRESS:
		return link ? send_uplink_egress(ctx) : send_uplink_out_l3(ctx);
	case HOOK_POD_INGRESS:
		return send_pod_ingress(ctx);
	default:
		return VERDICT_NEXT;
	}
}

/* Where rules route by source, the stack would route a pod's answer by the pod's address, although the client knows the frontend's:
 * it leaves by the frontend's route when that is another device.
 */
__noinline int stage_source_route(ctx_t *ctx, __u32 link)
{
	struct scratch *x = scratch_get();
	enum flow_table table;
	struct flow *live;
	struct pkt *p;
	__u32 ifindex;
	long result;

	if (!x)
		return UNDECIDED;
	p = &x->packet;
	p->tuple.hook = HOOK_UPLINK_EGRESS;
	live = flow_find(&p->tuple, &x->flow, &table, false);
	p->tuple.hook = HOOK_POD_INGRESS;
	if (!live || x->flow.path != PATH_OUTSIDE_LOCAL)
		return UNDECIDED;
	route_lookup(ctx, p, &p->tuple, ctx_ifindex(ctx), &x->fib);
	ifindex = x->fib.ifindex;
	result = route_lookup(ctx, p, &x->flow.write, ctx_ifindex(ctx), &x->fib);
	if (x->fib.ifindex == ifindex || p->ttl <= 1)
		return UNDECIDED;
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_TOO_BIG;
	if (!route_found(result))
		return UNDECIDED;
	p->service = x->flow.service;
	if (p->piece == PIECE_FIRST)
		fragment_remember(p, &x->flow.write);
	if (checksum_is_elsewhere(p, &x->flow.write))
		return DROP_SCTP_FRAGMENT;
	if (!rewrite_tuple(ctx, p, &x->flow.write, 1))
		return DROP_REWRITE;
	p->tuple.hook = HOOK_UPLINK_EGRESS;
	flow_advance(p, live, &x->flow, table);
	count_service(x->flow.service, p->length, false);
	return redirect_by_route(ctx, p, &x->fib, result, link);
}

static __always_inline bool routes_by_source(void)
{
	const struct settings *s = settings_get();

	return s && (s->flags & SETTING_SOURCE_ROUTES);
}

enum addressee {
	FOR_OTHERS = 0,
	FOR_US,
	FOR_NEIGHBOUR, /* of a pod on a bridge for another one on it */
};

/* Whom the frame is for. This machine is addressed at a bridge's port by its bridge's MAC; others may flood theirs past us. A pod that
 * bears an address of the node, or not its own where that is known, is left to the stack, which drops it as a martian.
 */
static __always_inline enum addressee addressee_of(ctx_t *ctx, const struct pkt *p, const enum hook hook, const __u32 link)
{
	const struct address *pod;
	struct device *device;
	struct ethhdr *eth;

	if (hook != HOOK_POD_INGRESS)
		return hook != HOOK_UPLINK_INGRESS || !link || ctx_is_for_host(ctx) ? FOR_US : FOR_OTHERS;
	device = device_of(ctx_ifindex(ctx));
	eth = ctx_at(ctx, 0, sizeof(*eth));
	if (!device || !eth)
		return FOR_OTHERS;
	pod = p->v6 ? &device->pod6 : &device->pod4;
	if (address_is_set(pod)) {
		if (!address_equal(pod, &p->tuple.source))
			return FOR_OTHERS;
	} else if ((near_flags(near_sum(&p->tuple.source)) & NEAR_NODE) && (address_roles(&p->tuple.source) & ADDRESS_NODE)) {
		return FOR_OTHERS;
	}
	if (mac_equal(eth->h_dest, device->accepts))
		return FOR_US;
	return device->master && !(eth->h_dest[0] & 1) ? FOR_NEIGHBOUR : FOR_OTHERS;
}

/* A packet without a flow. */
static __always_inline enum verdict stage_unknown(ctx_t *ctx, const struct pkt *p, const enum hook hook)
{
	enum verdict verdict = UNDECIDED;

	if (hook == HOOK_POD_INGRESS && p->tuple.proto == IPPROTO_UDP)
		verdict = stage_retired(ctx, hook);
	return verdict == UNDECIDED ? stage_frontend(ctx, hook) : verdict;
}

/* A pod's packet straight to another one on its bridge: nothing of it asks a frontend, but it may be of a conversation that outlives its
 * backend, or beside one that is translated.
 */
static __always_inline enum verdict lb_neighbour(ctx_t *ctx, struct pkt *p, const __u32 link)
{
	enum verdict verdict;

	if (p->kind == PACKET_FRAGMENT ? !fragment_recall(p) : p->kind != PACKET_FLOW)
		return VERDICT_NEXT;
	if (asks_frontend())
		return VERDICT_NEXT;
	verdict = stage_known(ctx, HOOK_POD_INGRESS, link);
	return verdict == UNDECIDED ? stage_unknown(ctx, p, HOOK_POD_INGRESS) : verdict;
}

/* A global function, for the stack's sake. */
__noinline int hear_neighbour(ctx_t *ctx)
{
	struct scratch *x = scratch_get();

	if (x)
		neighbour_advertised(ctx, &x->packet);
	return VERDICT_NEXT;
}

/* What came from the client's side: an uplink's ingress, a pod device's ingress, or a local packet at an uplink's egress. */
static __always_inline enum verdict lb_forward(ctx_t *ctx, struct pkt *p, const enum hook hook, const __u32 link)
{
	enum addressee addressee;
	enum verdict verdict;

	switch (p->kind) {
	case PACKET_ARP:
		return hook != HOOK_UPLINK_EGRESS && link ? answer_arp(ctx, hook) : VERDICT_NEXT;
	case PACKET_NEIGHBOUR_SOLICITATION:
		if (hook == HOOK_UPLINK_INGRESS && link)
			neighbour_solicited(ctx);
		return hook != HOOK_UPLINK_EGRESS ? answer_neighbour(ctx, hook, link) : VERDICT_NEXT;
	case PACKET_NEIGHBOUR_ADVERTISEMENT:
		return hook == HOOK_UPLINK_INGRESS && link ? hear_neighbour(ctx) : VERDICT_NEXT;
	}
	addressee = addressee_of(ctx, p, hook, link);
	if (addressee == FOR_OTHERS)
		return VERDICT_NEXT;
	if (hook == HOOK_POD_INGRESS && addressee == FOR_NEIGHBOUR)
		return lb_neighbour(ctx, p, link);
	switch (p->kind) {
	case PACKET_FRAGMENT:
		if (!fragment_recall(p))
			return stage_fragment(p, true);
		break;
	case PACKET_FLOW:
		if (hook != HOOK_UPLINK_INGRESS || !asks_liveness(p))
			break;
		verdict = answer_liveness(ctx, link);
		if (verdict != UNDECIDED)
			return verdict;
		break;
	case PACKET_ECHO_REQUEST:
		return stage_echo(ctx, p);
	case PACKET_ICMP_ERROR:
	case PACKET_ICMP_REDIRECT:
		return stage_icmp(ctx, hook, link);
	default:
		return VERDICT_NEXT;
	}
	/* First, as the conversation may have claimed its ports when its backend was there still. */
	if (hook == HOOK_UPLINK_EGRESS && p->tuple.proto == IPPROTO_UDP) {
		verdict = stage_retired(ctx, hook);
		if (verdict != UNDECIDED)
			return verdict;
	}
	verdict = stage_known(ctx, hook, link);
	if (verdict == UNDECIDED && hook == HOOK_POD_INGRESS && routes_by_source())
		verdict = stage_source_route(ctx, link);
	return verdict == UNDECIDED ? stage_unknown(ctx, p, hook) : verdict;
}

/* What goes out toward the client without being able to open anything: answers only. */
static __always_inline enum verdict lb_answer(ctx_t *ctx, struct pkt *p, const enum hook hook, const __u32 link)
{
	switch (p->kind) {
	case PACKET_FRAGMENT:
		return fragment_recall(p) ? stage_known(ctx, hook, link) : stage_fragment(p, false);
	case PACKET_FLOW:
		return stage_known(ctx, hook, link);
	case PACKET_ICMP_ERROR:
	case PACKET_ICMP_REDIRECT:
		return stage_icmp(ctx, hook, link);
	}
	return VERDICT_NEXT;
}

/* A packet that was forwarded has a device that it came from; only a local one may ask a frontend here. One of a masqueraded pod
 * may be in a flow's way.
 */
static __always_inline enum verdict lb_uplink_egress(ctx_t *ctx, struct pkt *p, const __u32 link)
{
	enum verdict verdict;

	if (!ctx->ingress_ifindex)
		return lb_forward(ctx, p, HOOK_UPLINK_EGRESS, link);
	verdict = lb_answer(ctx, p, HOOK_UPLINK_EGRESS, link);
	if (verdict == UNDECIDED && p->kind == PACKET_FLOW)
		verdict = stage_claim(ctx, p);
	return verdict == UNDECIDED ? VERDICT_NEXT : verdict;
}

/* Answers alone are translated here. What a process of the host sends may be for somebody else than who has this pod's address now. */
static __always_inline enum verdict lb_pod_egress(ctx_t *ctx, struct pkt *p, const __u32 link)
{
	enum verdict verdict = lb_answer(ctx, p, HOOK_POD_EGRESS, link);

	if (verdict == UNDECIDED && !ctx->ingress_ifindex && p->tuple.proto == IPPROTO_UDP)
		return stage_retired(ctx, HOOK_POD_EGRESS);
	return verdict;
}

/* Makes the reply that `verdict` calls for. */
static __always_inline enum verdict lb_reply(ctx_t *ctx, struct scratch *x, enum verdict verdict, enum hook hook,
					     const __u32 link)
{
	if (verdict != VERDICT_REFUSE && verdict != VERDICT_TOO_BIG && verdict != VERDICT_ECHO && verdict != VERDICT_TIME_EXCEEDED)
		return verdict;
	/* An error is told about a datagram, not about each of its pieces (RFC 1122 section 3.2.2). */
	if (x->packet.piece == PIECE_LATER)
		return verdict == VERDICT_TIME_EXCEEDED ? DROP_TTL : DROP_PORT_UNKNOWN;
	if (verdict == VERDICT_REFUSE && is_reset(&x->packet))
		return DROP_PORT_UNKNOWN;
	if (!reply_allowed(x, verdict == VERDICT_TOO_BIG))
		return DROP_REPLY_LIMIT;
	if (verdict == VERDICT_ECHO)
		return reply_echo(ctx, hook, link);
	if (verdict == VERDICT_REFUSE && x->packet.tuple.proto == IPPROTO_TCP)
		return refuse_tcp(ctx, hook, link);
	return reply_icmp(ctx, hook, verdict, link);
}

/* Counts what was refused or dropped for the Service that it was on its way to. A global function, for the stack's sake. */
__noinline int count_refused(__u32 hook, __u32 verdict)
{
	struct scratch *x = scratch_get();

	if (!x)
		return 0;
	x->refusal.service = x->packet.service;
	x->refusal.hook = (__u8)hook;
	x->refusal.verdict = (__u8)verdict;
	count_refusal(&x->refusal);
	return 0;
}
