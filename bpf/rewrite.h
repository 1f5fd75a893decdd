/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes a new tuple into a packet and keeps every checksum right (RFC 1624). Never looks up a map.
 *
 * In tc the transport checksum may be partial (only the pseudo header is summed yet) or complete (skb->csum holds the
 * packet's sum), so addresses and ports go through bpf_l4_csum_replace apart: addresses with the pseudo-header flag, ports
 * without. In XDP there is no such state and the arithmetic is plain.
 *
 * SCTP's checksum covers no address. Where a device is to complete it, the field is 0 and stays so.
 */
#pragma once
#include "config.h"
#include "crc32c.h"
#include "parse.h"

#ifndef BPF_F_IPV6
#define BPF_F_IPV6 (1ULL << 7)
#endif

/* One's complement sum of `from` taken out and `to` put in, as 32 bits. */
static __always_inline __u32 sum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)sum;
}

static __always_inline __u16 sum_fold16(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static __always_inline __u64 sum_address(const struct address *a)
{
	__u64 sum = a->half[0] + a->half[1];

	sum += sum < a->half[1];
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u64 sum_address_inverse(const struct address *a)
{
	struct address inverse = { .half = { ~a->half[0], ~a->half[1] } };

	return sum_address(&inverse);
}

/* What the addresses add to a checksum when `from` becomes `to`. Of IPv4 only the last four bytes differ. */
static __always_inline __u32 diff_addresses(bool v6, const struct tuple *from, const struct tuple *to)
{
	if (!v6)
		return sum_fold32((__u64)(__u32)~address_to_v4(&from->source) + (__u32)~address_to_v4(&from->destination) +
				  address_to_v4(&to->source) + address_to_v4(&to->destination));
	return sum_fold32(sum_address_inverse(&from->source) + sum_address_inverse(&from->destination) +
			  sum_address(&to->source) + sum_address(&to->destination));
}

static __always_inline __u32 diff_ports(const struct tuple *from, const struct tuple *to)
{
	return (__u32)(__u16)~from->source_port + (__u32)(__u16)~from->destination_port + to->source_port +
	       to->destination_port;
}

static __always_inline bool ports_differ(const struct tuple *a, const struct tuple *b)
{
	return a->source_port != b->source_port || a->destination_port != b->destination_port;
}

/* The same, and 0 when there is nothing to write: what changes never adds 0. */
static __always_inline __u32 diff_changed_ports(const struct tuple *from, const struct tuple *to)
{
	return ports_differ(from, to) ? diff_ports(from, to) : 0;
}

/* The checksum `old` after `diff` was added to what it covers. */
static __always_inline __u16 sum_apply(__u16 old, __u32 diff)
{
	return (__u16)~sum_fold16((__u32)(__u16)~old + (diff & 0xffff) + (diff >> 16));
}

#if !CTX_IS_XDP
/* Did bpf_l4_csum_replace take a checksum over the whole packet from `before` to `after`? A partial one moves the other way. Where
 * it did, the ports' difference goes in by plain arithmetic: the helper would do nothing else with it, and takes 20 ns.
 */
static __always_inline bool sum_is_whole(__u16 before, __u16 after, __u32 diff)
{
	return after == sum_apply(before, diff) &&
	       after != sum_fold16((__u32)before + (diff & 0xffff) + (diff >> 16));
}
#endif

/* Nothing in an IPv6 packet makes up for a hop limit `less` than it was: a sum that the device took over the whole packet has to be
 * told. The hop limit is the high byte of its 16-bit word as it lies in memory.
 */
static __always_inline void csum_tell_hop_limit(UNUSED ctx_t *ctx, UNUSED __u8 less)
{
#if !CTX_IS_XDP
	if (less)
		bpf_csum_update(ctx, (__u16)~((__u16)less << 8));
#endif
}

/* Writes addresses, TTL and the header checksum. `ttl` is what to take off, `addresses` what diff_addresses() said. */
static __always_inline bool rewrite_header(ctx_t *ctx, struct pkt *p, const struct tuple *to, __u8 ttl, __u32 addresses)
{
	if (p->v6) {
		struct ipv6hdr *ip = ctx_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return false;
		address_to_v6(&to->source, &ip->saddr);
		address_to_v6(&to->destination, &ip->daddr);
		ip->hop_limit -= ttl;
		csum_tell_hop_limit(ctx, ttl);
	} else {
		struct iphdr *ip = ctx_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return false;
		ip->saddr = address_to_v4(&to->source);
		ip->daddr = address_to_v4(&to->destination);
		/* The TTL is the low byte of its 16-bit word in network order. */
		__u32 diff = sum_fold16(addresses) + (ttl ? (__u32)(__u16)~(__u16)ttl : 0);

		ip->check = sum_apply(ip->check, diff);
		ip->ttl -= ttl;
	}
	return true;
}

static __always_inline bool rewrite_network(ctx_t *ctx, struct pkt *p, const struct tuple *to, __u8 ttl)
{
	return rewrite_header(ctx, p, to, ttl, diff_addresses(p->v6, &p->tuple, to));
}

#if CTX_IS_XDP
/* Brings the transport checksum up to what addresses and ports changed by. */
static __always_inline void rewrite_sum_plain(__u16 *sum, __u8 proto, __u32 addresses, __u32 ports)
{
	__u16 fresh;

	if (proto == IPPROTO_UDP && !*sum)
		return;
	fresh = sum_apply(*sum, sum_fold32((__u64)addresses + ports));
	*sum = proto == IPPROTO_UDP && !fresh ? 0xffff : fresh;
}
#else
/* Brings the transport checksum, which was `before`, up to what addresses and ports changed by; `ports` is 0 when they did not.
 * Packet pointers are invalid after it.
 */
static __always_inline bool rewrite_sum(ctx_t *ctx, __u32 l4, __u8 proto, bool v6, __u16 before, __u32 addresses, __u32 ports)
{
	__u64 flags = proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u64 pseudo = flags | BPF_F_PSEUDO_HDR | (v6 && config_csum_ipv6 ? BPF_F_IPV6 : 0);
	__u32 check = l4 + checksum_offset(proto);
	__u16 *sum;

	if (bpf_l4_csum_replace(ctx, check, 0, addresses, pseudo))
		return false;
	if (!ports)
		return true;
	sum = ctx_at(ctx, check, 2);
	if (!sum)
		return false;
	/* UDP over IPv4 without a checksum goes without: the helper sees to that too. */
	if ((!before && proto == IPPROTO_UDP) || !sum_is_whole(before, *sum, addresses))
		return !bpf_l4_csum_replace(ctx, check, 0, ports, flags);
	*sum = sum_apply(*sum, ports);
	if (!*sum && proto == IPPROTO_UDP)
		*sum = 0xffff;
	return true;
}
#endif

/* Is the packet a piece of one whose checksum would have to change, by what only the whole tells? */
static __always_inline bool checksum_is_elsewhere(const struct pkt *p, const struct tuple *to)
{
	return p->tuple.proto == IPPROTO_SCTP && p->piece == PIECE_FIRST && ports_differ(&p->tuple, to);
}

static __always_inline bool rewrite_sctp(ctx_t *ctx, const struct pkt *p, const struct tuple *to)
{
	__u32 before = *(const __u32 *)&p->tuple.source_port, after = *(const __u32 *)&to->source_port, diff;
	__u32 *words;

	if (before == after)
		return true;
	diff = (__u32)crc32c_difference(before ^ after, p->length - (p->l4 - p->l3));
	words = ctx_at(ctx, p->l4, SCTP_HEADER);
	if (!words)
		return false;
	words[0] = after;
	if (words[SCTP_CHECKSUM / 4])
		words[SCTP_CHECKSUM / 4] ^= diff;
	return true;
}

/* Makes `to` of the packet that `p` describes, and takes `ttl` off its hop limit. On false the packet must be dropped. Of a
 * later fragment only the network header is there; the first one's checksum covers the datagram.
 */
static __always_inline bool rewrite_tuple(ctx_t *ctx, struct pkt *p, const struct tuple *to, __u8 ttl)
{
	__u32 addresses = diff_addresses(p->v6, &p->tuple, to);
	__u32 ports = diff_changed_ports(&p->tuple, to);
	__u16 *sum;

#if !CTX_IS_XDP
	if (p->piece == PIECE_LATER) {
		if (p->v6)
			bpf_csum_update(ctx, addresses);
		return rewrite_header(ctx, p, to, ttl, addresses);
	}
#endif
	if (p->tuple.proto == IPPROTO_SCTP)
		return rewrite_sctp(ctx, p, to) && rewrite_header(ctx, p, to, ttl, addresses);
	sum = ctx_at(ctx, p->l4 + checksum_offset(p->tuple.proto), 2);
	if (!sum)
		return false;
#if CTX_IS_XDP
	rewrite_sum_plain(sum, p->tuple.proto, addresses, ports);
#else
	if (!rewrite_sum(ctx, p->l4, p->tuple.proto, p->v6, *sum, addresses, ports))
		return false;
#endif
	if (!rewrite_header(ctx, p, to, ttl, addresses))
		return false;
	if (ports) {
		__be16 *both = ctx_at(ctx, p->l4, 4);

		if (!both)
			return false;
		both[0] = to->source_port;
		both[1] = to->destination_port;
	}
	return true;
}
