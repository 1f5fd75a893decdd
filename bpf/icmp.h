/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about translated flows (tc only). The error quotes a packet as it was after translation; the entry of the
 * opposite direction, which is where this error travels, holds what the quoted packet was before. Redirects are never
 * translated: they would teach the client a route to a pod under the Service's address.
 */
#pragma once
#include "leave.h"

#define REDIRECTED_HEADER 4

/* Offset of the quoted packet, 0 when there is none. A redirect of ICMPv6 has it in an option, behind two addresses and
 * perhaps an option with a MAC (RFC 4861 section 4.5).
 */
static __always_inline __u32 icmp_inner(ctx_t *ctx, const struct pkt *p)
{
	__u32 at = p->l4 + 8;

	if (!p->v6 || p->kind != PACKET_ICMP_REDIRECT)
		return at;
	at += 2 * sizeof(struct in6_addr);
	for (int i = 0; i < 3; i++) {
		__u8 *option = ctx_at(ctx, at, 8);

		if (!option)
			return 0;
		if (option[0] == REDIRECTED_HEADER)
			return at + 8;
		at += option[1] * 8;
	}
	return 0;
}

/* Reads the quoted tuple. `inner_l4` is the offset of its ports. */
static __always_inline bool icmp_quoted(ctx_t *ctx, const struct pkt *p, struct tuple *quoted, __u32 *inner_l4)
{
	__u32 inner = icmp_inner(ctx, p);
	__be16 *ports;

	__builtin_memset(quoted, 0, sizeof(*quoted));
	if (!inner)
		return false;
	if (p->v6) {
		struct ipv6hdr *ip = ctx_at(ctx, inner, sizeof(*ip));

		if (!ip)
			return false;
		address_from_v6(&quoted->source, &ip->saddr);
		address_from_v6(&quoted->destination, &ip->daddr);
		quoted->proto = ip->nexthdr;
		*inner_l4 = inner + sizeof(*ip);
	} else {
		struct iphdr *ip = ctx_at(ctx, inner, sizeof(*ip));

		if (!ip || ip->ihl < 5)
			return false;
		address_from_v4(&quoted->source, ip->saddr);
		address_from_v4(&quoted->destination, ip->daddr);
		quoted->proto = ip->protocol;
		*inner_l4 = inner + ip->ihl * 4;
	}
	if (quoted->proto != IPPROTO_TCP && quoted->proto != IPPROTO_UDP)
		return false;
	ports = ctx_at(ctx, *inner_l4, 4);
	if (!ports)
		return false;
	quoted->source_port = ports[0];
	quoted->destination_port = ports[1];
	return true;
}

/* Writes the quoted packet as it was before translation, and the new outer addresses. */
static __always_inline bool icmp_rewrite(ctx_t *ctx, struct pkt *p, const struct tuple *quoted, const struct tuple *original,
					 const struct tuple *outer, __u32 inner_l4, __u8 ttl)
{
	__u32 addresses = diff_addresses(p->v6, quoted, original);
	__u32 ports_diff = diff_ports(quoted, original);
	__u32 inner = p->l4 + 8;
	__be16 *ports;

	if (p->v6) {
		__u64 pseudo = BPF_F_PSEUDO_HDR | (config_csum_ipv6 ? BPF_F_IPV6 : 0);
		struct ipv6hdr *ip;

		if (bpf_l4_csum_replace(ctx, p->l4 + 2, 0, sum_fold32((__u64)addresses + ports_diff), 0) ||
		    bpf_l4_csum_replace(ctx, p->l4 + 2, 0, diff_addresses(p->v6, &p->tuple, outer), pseudo))
			return false;
		ip = ctx_at(ctx, inner, sizeof(*ip));
		if (!ip)
			return false;
		address_to_v6(&original->source, &ip->saddr);
		address_to_v6(&original->destination, &ip->daddr);
	} else {
		struct iphdr *ip;

		/* The quoted header's own checksum takes the addresses' difference up. */
		if (bpf_l4_csum_replace(ctx, p->l4 + 2, 0, ports_diff, 0))
			return false;
		ip = ctx_at(ctx, inner, sizeof(*ip));
		if (!ip)
			return false;
		ip->check = sum_apply(ip->check, addresses);
		ip->saddr = address_to_v4(&original->source);
		ip->daddr = address_to_v4(&original->destination);
	}
	ports = ctx_at(ctx, inner_l4, 4);
	if (!ports)
		return false;
	ports[0] = original->source_port;
	ports[1] = original->destination_port;
	return rewrite_network(ctx, p, outer, ttl);
}

/* An ICMP error, or redirect, about a flow that is known. Global for the verifier's sake. */
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
	if (!icmp_quoted(ctx, p, &x->icmp.quoted, &inner_l4))
		return VERDICT_NEXT;
	tuple_reverse(&x->icmp.quoted, &x->partner_key);
	x->partner_key.hook = p->tuple.hook;
	if (!flow_find(&x->partner_key, f, &table, false))
		return VERDICT_NEXT;
	if (p->kind == PACKET_ICMP_REDIRECT)
		return DROP_ICMP_REDIRECT;
	if (!address_equal(&p->tuple.destination, &x->partner_key.destination))
		return VERDICT_NEXT;
	tuple_reverse(&f->write, &x->icmp.original);
	x->icmp.ends = p->tuple;
	if (address_equal(&p->tuple.source, &x->partner_key.source))
		x->icmp.ends.source = f->write.source;
	x->icmp.ends.destination = f->write.destination;
	redirected = f->path == PATH_OUTSIDE_REMOTE || (hook == HOOK_UPLINK_EGRESS && f->path != PATH_OUTSIDE_LOCAL);
	if (redirected) {
		result = route_lookup(ctx, p, &x->icmp.ends, ctx_ifindex(ctx), &x->fib);
		if (!route_found(result))
			return DROP_NO_ROUTE;
		if (p->ttl <= 1)
			return DROP_TTL;
	}
	if (!icmp_rewrite(ctx, p, &x->icmp.quoted, &x->icmp.original, &x->icmp.ends, inner_l4, redirected))
		return DROP_REWRITE;
	p->action = TC_ACT_UNSPEC;
	if (redirected) {
		enum verdict verdict = redirect_by_route(ctx, p, &x->fib, result, link);

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
