/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about translated flows (tc only). The error quotes a packet as it was after translation; the entry of the
 * opposite direction, which is where this error travels, holds what the quoted packet was before. Redirects are never
 * translated: they would teach the client a route to a pod under the Service's address.
 */
#pragma once
#include "fragment.h"
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

/* Where the quoted packet's transport header begins, and which piece of a datagram it is. A global function, for the verifier's sake; false
 * when it is none that can be translated.
 */
__noinline int icmp_walk(ctx_t *ctx)
{
	struct scratch *x = scratch_get();
	struct tuple *quoted;
	__u32 inner, at;
	struct pkt *p;

	if (!x)
		return false;
	p = &x->packet;
	quoted = &x->icmp.quoted;
	__builtin_memset(quoted, 0, sizeof(*quoted));
	x->icmp.later = 0;
	inner = icmp_inner(ctx, p);
	if (!inner)
		return false;
	x->icmp.inner = inner;
	if (p->v6) {
		struct ipv6hdr *ip = ctx_at(ctx, inner, sizeof(*ip));
		__u8 next;

		if (!ip || ip->version != 6)
			return false;
		address_from_v6(&quoted->source, &ip->saddr);
		address_from_v6(&quoted->destination, &ip->daddr);
		next = ip->nexthdr;
		at = inner + sizeof(*ip);
		for (int i = 0; i < 4; i++) {
			__u8 *header;

			if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_FRAGMENT && next != NEXT_DESTINATION)
				break;
			header = ctx_at(ctx, at, 8);
			if (!header)
				return false;
			if (next == NEXT_FRAGMENT) {
				x->icmp.later = ((((__u16)header[2] << 8) | header[3]) & 0xfff8) != 0;
				if (p->id)
					return false;
				p->id = *(__u32 *)(header + 4);
				at += 8;
			} else {
				at += ((__u32)header[1] + 1) * 8;
			}
			next = header[0];
			if (at > HEADERS_MAX)
				return false;
			if (x->icmp.later)
				break;
		}
		quoted->proto = next;
	} else {
		struct iphdr *ip = ctx_at(ctx, inner, sizeof(*ip));

		if (!ip || ip->version != 4 || ip->ihl < 5)
			return false;
		address_from_v4(&quoted->source, ip->saddr);
		address_from_v4(&quoted->destination, ip->daddr);
		quoted->proto = ip->protocol;
		x->icmp.later = (ip->frag_off & bpf_htons(0x1fff)) != 0;
		p->id = ip->id;
		at = inner + ip->ihl * 4;
	}
	x->icmp.l4 = at;
	return quoted->proto == IPPROTO_TCP || quoted->proto == IPPROTO_UDP || quoted->proto == IPPROTO_SCTP;
}

/* Fills the quoted tuple's ports: from the packet, or, of a later fragment, from what its first one left when it was translated. */
static __always_inline bool icmp_ports(ctx_t *ctx, struct scratch *x)
{
	struct tuple *quoted = &x->icmp.quoted;
	__be16 *ports;

	if (x->icmp.later)
		return fragment_ports(x, quoted, x->packet.id, x->packet.tuple.hook);
	ports = ctx_at(ctx, x->icmp.l4, 4);
	if (!ports)
		return false;
	quoted->source_port = ports[0];
	quoted->destination_port = ports[1];
	return true;
}

/* Brings the quoted packet's transport checksum, when that was quoted, to what it was; returns what that adds to the error's own. SCTP's
 * covers what was cut off.
 */
static __always_inline __u32 icmp_rewrite_sum(ctx_t *ctx, const struct scratch *x, __u32 diff)
{
	__u8 proto = x->icmp.quoted.proto;
	__u32 at = x->icmp.l4 + checksum_offset(proto);
	__u16 before, *sum;

	if (proto == IPPROTO_SCTP || at + 2 > x->packet.l3 + x->packet.length)
		return 0;
	sum = ctx_at(ctx, at, 2);
	if (!sum || (!*sum && proto == IPPROTO_UDP))
		return 0;
	before = *sum;
	*sum = sum_apply(before, diff);
	if (!*sum && proto == IPPROTO_UDP)
		*sum = 0xffff;
	return (__u32)(__u16)~before + *sum;
}

/* Writes the quoted packet as it was before translation, and the new outer addresses. */
static __always_inline bool icmp_rewrite(ctx_t *ctx, struct scratch *x, __u8 ttl)
{
	const struct tuple *quoted = &x->icmp.quoted, *original = &x->icmp.original;
	struct pkt *p = &x->packet;
	__u32 addresses = diff_addresses(p->v6, quoted, original);
	__u32 ports = x->icmp.later ? 0 : diff_changed_ports(quoted, original);
	__u32 covered = 0;

	if (!x->icmp.later) {
		covered = icmp_rewrite_sum(ctx, x, sum_fold32((__u64)addresses + ports));
		if (ports) {
			__be16 *both = ctx_at(ctx, x->icmp.l4, 4);

			if (!both)
				return false;
			both[0] = original->source_port;
			both[1] = original->destination_port;
		}
	}
	covered = sum_fold32((__u64)covered + ports);
	if (p->v6) {
		__u64 pseudo = BPF_F_PSEUDO_HDR | (config_csum_ipv6 ? BPF_F_IPV6 : 0);
		struct ipv6hdr *ip;

		if (bpf_l4_csum_replace(ctx, p->l4 + 2, 0, sum_fold32((__u64)addresses + covered), 0) ||
		    bpf_l4_csum_replace(ctx, p->l4 + 2, 0, diff_addresses(p->v6, &p->tuple, &x->icmp.ends), pseudo))
			return false;
		ip = ctx_at(ctx, x->icmp.inner, sizeof(*ip));
		if (!ip)
			return false;
		address_to_v6(&original->source, &ip->saddr);
		address_to_v6(&original->destination, &ip->daddr);
	} else {
		struct iphdr *ip;

		/* The quoted header's own checksum takes the addresses' difference up. */
		if (covered && bpf_l4_csum_replace(ctx, p->l4 + 2, 0, covered, 0))
			return false;
		ip = ctx_at(ctx, x->icmp.inner, sizeof(*ip));
		if (!ip)
			return false;
		ip->check = sum_apply(ip->check, addresses);
		ip->saddr = address_to_v4(&original->source);
		ip->daddr = address_to_v4(&original->destination);
	}
	return rewrite_network(ctx, p, &x->icmp.ends, ttl);
}

/* An ICMP error, or redirect, about a flow that is known. Global for the verifier's sake. */
__noinline int stage_icmp(ctx_t *ctx, __u32 hook, __u32 link)
{
	struct scratch *x = scratch_get();
	enum flow_table table;
	bool redirected;
	long result = 0;
	struct pkt *p;
	struct flow *f;

	if (!x)
		return VERDICT_NEXT;
	p = &x->packet;
	f = &x->flow;
	if (!icmp_walk(ctx) || !icmp_ports(ctx, x))
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
	if (!icmp_rewrite(ctx, x, redirected))
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
