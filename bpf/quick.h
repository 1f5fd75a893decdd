/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The quick way, which comes first at every hook. A packet that is none of ours, as most are, is told by the few words of near.h. One
 * of an established flow, as most translated ones are, takes one lookup and one pass over the headers, every decision before the
 * first write: what the stages of lb.h would do with it. Whatever is unusual about packet or flow is UNDECIDED and left to them
 * as it came.
 */
#pragma once
#include "finish.h"
#include "flow.h"
#include "frontend.h"
#include "near.h"
#include "rewrite.h"
#include "route.h"
#if CTX_IS_XDP
#include "xdp_lb.h"
#endif

/* What it returns when it does not take a packet; else what the kernel wants returned, which is less. */
enum quick_result {
	QUICK_UNDECIDED = 0x100,
	QUICK_STRANGER, /* no established flow has it */
};

/* The transport checksum: XDP writes it, tc wants to know what it was. */
#if CTX_IS_XDP
#define QUICK_SUM __u16 *
#define QUICK_SUM_OF(field) ((__u16 *)(field))
#else
#define QUICK_SUM __u32
#define QUICK_SUM_OF(field) (*(__u16 *)(field))
#endif

/* A packet with plain headers: no options, extension headers or fragments. What is read of the transport header is kept from where it
 * was found long enough: before Linux 6.9 the verifier does not know that a `proto` read again from the stack is the one that was
 * looked at then.
 */
struct plain {
	struct tuple key;
	void *l3;
	struct flow *live;
	QUICK_SUM sum;
	__u32 lengths; /* of the network layer, whole packet, in 24 bits; of the transport header in the 8 above */
	__u32 acknowledgement; /* host order */
	__u8 proto;
#if CTX_IS_XDP
	__u8 pad[7];
#else
	__u8 pad[3];
#endif
};

#define QUICK_LENGTH(q) ((q)->lengths & 0xffffff)
#define QUICK_HEADER(v6) ((v6) ? sizeof(struct ipv6hdr) : sizeof(struct iphdr))

/* How a packet goes on. */
enum quick_way {
	QUICK_NONE = 0,
	QUICK_STACK,  /* translated, on to the stack or to whoever is next */
	QUICK_ROUTE,  /* redirected to the flow's next hop */
	QUICK_SWITCH, /* on to the stack, or to the bridge with the next hop's MAC */
};

static __always_inline enum quick_way quick_way(__u8 path, __u8 answer, enum hook hook)
{
	switch (hook) {
	case HOOK_XDP:
		return path == PATH_OUTSIDE_REMOTE ? QUICK_ROUTE : QUICK_NONE;
	case HOOK_UPLINK_INGRESS:
		if (path == PATH_OUTSIDE_REMOTE)
			return QUICK_ROUTE;
		if (answer)
			return path == PATH_HOST_REMOTE || path == PATH_PORT_CHANGE ? QUICK_STACK : QUICK_NONE;
		return path == PATH_OUTSIDE_LOCAL ? QUICK_STACK : QUICK_NONE;
	case HOOK_UPLINK_EGRESS:
		if (answer)
			return path == PATH_OUTSIDE_LOCAL ? QUICK_STACK : QUICK_NONE;
		if (path == PATH_PORT_CHANGE)
			return QUICK_STACK;
		return path == PATH_HOST_REMOTE || path == PATH_HOST_LOCAL ? QUICK_ROUTE : QUICK_NONE;
	case HOOK_POD_INGRESS:
		return path == PATH_POD && !answer ? QUICK_SWITCH : QUICK_NONE;
	case HOOK_POD_EGRESS:
		return path == PATH_POD && answer ? QUICK_STACK : QUICK_NONE;
	default:
		return QUICK_NONE;
	}
}

/* Fills `q` from the network header at `q->l3`; false when there is anything unusual, or neither TCP nor UDP behind it. */
static __always_inline bool quick_network(struct plain *q, const void *end, const enum hook hook, const bool v6)
{
	if (v6) {
		struct ipv6hdr *ip = q->l3;
		const __u64 *addresses = (const __u64 *)&ip->saddr;

		if ((void *)(ip + 1) + sizeof(struct udphdr) > end || ip->version != 6)
			return false;
		q->key.source.half[0] = addresses[0];
		q->key.source.half[1] = addresses[1];
		q->key.destination.half[0] = addresses[2];
		q->key.destination.half[1] = addresses[3];
		q->proto = ip->nexthdr;
		q->lengths = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	} else {
		struct iphdr *ip = q->l3;

		/* Version 4, five words, and neither a fragment nor the first of several. */
		if ((void *)(ip + 1) + sizeof(struct udphdr) > end || *(__u8 *)ip != 0x45 || (ip->frag_off & bpf_htons(0x3fff)))
			return false;
		address_from_v4(&q->key.source, ip->saddr);
		address_from_v4(&q->key.destination, ip->daddr);
		q->proto = ip->protocol;
		q->lengths = bpf_ntohs(ip->tot_len);
	}
	/* Ports, protocol and hook in one store: the lookup and the check read them in one load, which waits for several stores. */
	((__u64 *)&q->key)[4] = *(__u32 *)(q->l3 + QUICK_HEADER(v6)) | (__u64)q->proto << 32 | (__u64)flow_hook(hook) << 40;
	return q->proto == IPPROTO_TCP || q->proto == IPPROTO_UDP;
}

static __always_inline bool quick_met(__u32 sum, __be16 port, __u8 proto, const enum hook answers)
{
	struct met_backend *backend = near_backend(sum, port, proto, answers);

	return !backend || backend->met;
}

/* Is the packet worth a look? It is when something is known of where it goes, or when it comes from a backend that has a flow. */
static __always_inline bool quick_is_near(UNUSED ctx_t *ctx, const struct plain *q, const struct settings *s, const enum hook hook)
{
	__u32 source = near_sum(&q->key.source), destination, flags;

	if (quick_met(source, q->key.source_port, q->proto, flow_hook(hook)))
		return true;
	if (hook == HOOK_POD_INGRESS && (s->flags & SETTING_SOURCE_ROUTES) &&
	    quick_met(source, q->key.source_port, q->proto, HOOK_UPLINK_EGRESS))
		return true;
#if !CTX_IS_XDP
	/* Of the host's own packets those to where a backend was retired. */
	if (hook == HOOK_POD_EGRESS)
		return q->proto == IPPROTO_UDP && !ctx->ingress_ifindex &&
		       (near_flags(near_sum(&q->key.destination)) & NEAR_FRONTEND);
#endif
	destination = near_sum(&q->key.destination);
	flags = near_flags(destination);
	if (flags & NEAR_FRONTEND)
		return true;
	if ((flags & NEAR_NODE) && near_port(q->key.destination_port, q->proto))
		return true;
	if (hook == HOOK_XDP)
		return false;
	if (hook == HOOK_UPLINK_EGRESS) {
		if ((__u32)bpf_ntohs(q->key.source_port) - s->snat_first < s->snat_count &&
		    near_is_backend(destination, q->key.destination_port))
			return true;
		if (near_port(q->key.source_port, q->proto) && (near_flags(source) & NEAR_NODE))
			return true;
	}
	return quick_met(destination, q->key.destination_port, q->proto, answer_hook(hook)) || address_in_service_range(&q->key.destination);
}

/* The part of a flow's entry that is constant, copied before it is checked; of IPv4 only what is not the same in every address. */
static __always_inline void quick_copy(struct flow *f, const struct flow *live, const bool v6)
{
	if (v6) {
		f->write = live->write;
	} else {
		address_from_v4(&f->write.source, address_to_v4(&live->write.source));
		address_from_v4(&f->write.destination, address_to_v4(&live->write.destination));
		((__u64 *)&f->write)[4] = ((const __u64 *)&live->write)[4];
	}
	*(__u64 *)&f->backend = *(const __u64 *)&live->backend;
	*(__u64 *)&f->service = *(const __u64 *)&live->service;
	f->path = live->path;
	f->answer = live->answer;
}

#define TCP_UNUSUAL (TCP_FIN | TCP_SYN | TCP_RST)

/* Finds the entry of a plain packet that opens and ends nothing, of a flow that goes on, and copies it to `f`. Returns 0, or a
 * quick_result.
 */
static __always_inline int quick_find(struct plain *q, struct flow *f, const void *end, const bool v6)
{
	if (q->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = q->l3 + QUICK_HEADER(v6);

		if ((void *)(tcp + 1) > end || (((__u8 *)tcp)[13] & (TCP_UNUSUAL | TCP_ACK)) != TCP_ACK)
			return QUICK_UNDECIDED;
		q->sum = QUICK_SUM_OF(&tcp->check);
		q->lengths |= (__u32)(((__u8 *)tcp)[12] >> 4 << 2) << 24;
		q->acknowledgement = bpf_ntohl(tcp->ack_seq);
		asm volatile("" : "+r"(q->sum), "+r"(q->lengths));
	} else {
		struct udphdr *udp = q->l3 + QUICK_HEADER(v6);

		q->sum = QUICK_SUM_OF(&udp->check);
		q->lengths |= sizeof(*udp) << 24;
		asm volatile("" : "+r"(q->sum), "+r"(q->lengths));
	}
	q->live = established_lookup(&q->key, q->proto);
	if (!q->live)
		return QUICK_STRANGER;
	quick_copy(f, q->live, v6);
	if (f->check != flow_check(&q->key, f) || (q->live->state & STATE_RESET))
		return QUICK_UNDECIDED;
	if (q->proto == IPPROTO_UDP && !f->answer) {
		/* A socket of the host may be on its way to a backend that is gone. */
		if (f->path == PATH_PORT_CHANGE ? near_flags(near_sum(&q->key.destination)) & NEAR_FRONTEND :
						  !backend_alive(f->backend, f->generation))
			return QUICK_UNDECIDED;
	}
	return 0;
}

/* Writes the network header, the ports and, in XDP, the transport checksum. */
static __always_inline void quick_write(struct plain *q, const struct flow *f, __u32 addresses, UNUSED __u32 ports,
					const __u32 ttl, const bool v6)
{
	if (v6) {
		struct ipv6hdr *ip = q->l3;
		__u64 *to = (__u64 *)&ip->saddr;

		to[0] = f->write.source.half[0];
		to[1] = f->write.source.half[1];
		to[2] = f->write.destination.half[0];
		to[3] = f->write.destination.half[1];
		ip->hop_limit -= (__u8)ttl;
	} else {
		struct iphdr *ip = q->l3;

		ip->saddr = address_to_v4(&f->write.source);
		ip->daddr = address_to_v4(&f->write.destination);
		ip->ttl -= (__u8)ttl;
		/* The TTL is the low byte of its 16-bit word in network order. */
		ip->check = sum_apply(ip->check, sum_fold16(addresses) + (ttl ? (__u16)~ttl : 0));
	}
	*(__u32 *)(q->l3 + QUICK_HEADER(v6)) = *(const __u32 *)&f->write.source_port;
#if CTX_IS_XDP
	rewrite_sum_plain(q->sum, q->proto, addresses, ports);
#endif
}

/* Both MACs are 8 and 4 bytes of two of the next hop's words. */
static __always_inline void quick_macs(void *eth, const struct next_hop *hop, enum quick_way way)
{
	const __u64 *words = (const __u64 *)hop;

	if (way == QUICK_ROUTE) {
		*(__u64 *)eth = (words[1] & 0xffffffffffffULL) | words[2] << 48;
		((__u32 *)eth)[2] = (__u32)(words[2] >> 16);
	} else {
		*(__u32 *)eth = (__u32)words[1];
		((__u16 *)eth)[2] = (__u16)(words[1] >> 32);
	}
}

static __always_inline __u8 quick_ttl(const struct plain *q, const bool v6)
{
	return v6 ? ((struct ipv6hdr *)q->l3)->hop_limit : ((struct iphdr *)q->l3)->ttl;
}

/* May the packet leave by the next hop as it is? */
static __always_inline bool quick_fits(ctx_t *ctx, const struct plain *q, const struct next_hop *hop, const __u32 link,
				       const bool v6)
{
	__u32 gso = ctx_gso_size(ctx);
	__u32 segment = QUICK_LENGTH(q);

	if (gso)
		segment = QUICK_HEADER(v6) + gso + (q->lengths >> 24);
	return link && quick_ttl(q, v6) > 1 && segment <= hop->mtu;
}

/* Is the frame addressed to this machine, as far as the quick way can tell? */
static __always_inline bool quick_is_for_us(ctx_t *ctx, UNUSED const void *eth, UNUSED const struct next_hop *hop,
					    UNUSED const __u32 link, const enum hook hook)
{
#if CTX_IS_XDP
	return hop && xdp_can_send(ctx, hop) && xdp_is_for_us(ctx, hop, eth);
#else
	if (hook == HOOK_UPLINK_INGRESS)
		return !link || ctx_is_for_host(ctx);
	if (hook == HOOK_POD_INGRESS)
		return hop && mac_equal(eth, hop->source_mac);
	return true;
#endif
}

/* `hook`, `link` and `v6` are constants, so that each program has one straight line for each family. */
static __always_inline int quick_family(ctx_t *ctx, const struct settings *s, void *l3, const void *end, const enum hook hook,
					const __u32 link, const bool v6)
{
	struct plain packet = { .l3 = l3 }, *q = &packet;
	struct flow flow, *f = &flow;
	struct next_hop *hop = NULL;
	struct scratch *x;
	enum quick_way way;
	__u32 addresses, ports, now;
	int found;

	if (!quick_network(q, end, hook, v6))
		return QUICK_UNDECIDED;
	if (!quick_is_near(ctx, q, s, hook))
		return finish(hook, VERDICT_NEXT, 0);
	found = quick_find(q, f, end, v6);
	if (found)
		return found;
	way = quick_way(f->path, f->answer, hook);
	if (way == QUICK_NONE)
		return CTX_IS_XDP ? finish(hook, VERDICT_NEXT, 0) : QUICK_UNDECIDED;
	now = jiffies_now();
	if (now - q->live->seen >= s->hz || flow_policy_changed(q->live, f))
		return QUICK_UNDECIDED;
	if (way == QUICK_ROUTE || way == QUICK_SWITCH) {
		/* Of what can be large only this is not on the stack: chains of calls have little left of that. */
		x = scratch_get();
		if (!x)
			return QUICK_UNDECIDED;
		hop = &x->hop;
		if (!hop_known(q->live, f, hop, now, s->hz))
			return QUICK_UNDECIDED;
		if (way == QUICK_ROUTE && !quick_fits(ctx, q, hop, link, v6))
			return QUICK_UNDECIDED;
	}
	if (!quick_is_for_us(ctx, q->l3 - link, hop, link, hook))
		return QUICK_UNDECIDED;
	if (way == QUICK_SWITCH && hop && (hop->flags & HOP_STACK))
		way = QUICK_STACK;

	addresses = diff_addresses(v6, &q->key, &f->write);
	ports = diff_changed_ports(&q->key, &f->write);
	quick_write(q, f, addresses, ports, way == QUICK_ROUTE ? 1 : 0, v6);
	if (hop && (way == QUICK_ROUTE || way == QUICK_SWITCH))
		quick_macs(q->l3 - link, hop, way);
	if (q->proto == IPPROTO_TCP)
		RECORD(q->live->number, q->acknowledgement);
	count_service(f->service, QUICK_LENGTH(q), false);
#if CTX_IS_XDP
	return finish(hook, VERDICT_FORWARD, xdp_send(ctx, hop->ifindex));
#else
	if (v6 && way == QUICK_ROUTE)
		csum_tell_hop_limit(ctx, 1);
	if (!rewrite_sum(ctx, link + QUICK_HEADER(v6), q->proto, v6, (__u16)q->sum, addresses, ports))
		return finish(hook, DROP_REWRITE, 0);
	if (way == QUICK_STACK && s->forward_mark && (hook == HOOK_UPLINK_INGRESS || hook == HOOK_POD_INGRESS))
		ctx_set_mark(ctx, ctx_mark(ctx) | s->forward_mark);
	if (way != QUICK_ROUTE || !hop)
		return finish(hook, VERDICT_PASS, 0);
	ctx_set_mark(ctx, MARK_REDIRECTED);
	return finish(hook, VERDICT_FORWARD, (int)bpf_redirect(hop->ifindex, 0));
#endif
}

static __always_inline int stage_quick(ctx_t *ctx, const enum hook hook, const __u32 link)
{
	void *data = ctx_data(ctx), *end = ctx_data_end(ctx);
	const struct settings *s = settings_get();
	__be16 protocol;

	if (!s || s->bypass)
		return CTX_PASS;
	if (link) {
		struct ethhdr *eth = data;

		if ((void *)(eth + 1) > end)
			return QUICK_UNDECIDED;
		protocol = eth->h_proto;
	} else {
		protocol = ctx_protocol(ctx);
	}
	if (protocol == bpf_htons(ETH_P_IP))
		return quick_family(ctx, s, data + link, end, hook, link, false);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return quick_family(ctx, s, data + link, end, hook, link, true);
	return QUICK_UNDECIDED;
}
