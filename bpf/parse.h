/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One pass over a packet's headers fills `struct pkt`; after it nothing but rewrite.h, icmp.h, refuse.h and neighbour.h
 * touches packet bytes. Offsets are from the start of the packet data, ports and addresses in network order, sequence
 * numbers in host order. skb.h or xdp.h must be included before: they supply ctx_t and ctx_at().
 */
#pragma once
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "address.h"
#include "types.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian hosts only"
#endif

/* linux/icmp.h and linux/if_arp.h pull in the C library's headers, which there are none of for this target. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

#define ICMP_DEST_UNREACH 3
#define ICMP_REDIRECT 5
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_TIME_EXCEED 3
#define ICMPV6_PARAMPROB 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_NEIGHBOUR_SOLICITATION 135
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136
#define ICMPV6_REDIRECT 137

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_DESTINATION 60

/* RFC 9260 sections 3.1 and 3.2. */
#define SCTP_HEADER 12
#define SCTP_CHECKSUM 8
#define SCTP_INIT 1
#define SCTP_INIT_ACK 2
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN_COMPLETE 14
/* The gso_size of a packet whose segments are of any size: a list of SCTP packets that share one header. */
#define GSO_BY_FRAGS 0xffff

/* Extension headers end before this offset, or are none of ours. */
#define HEADERS_MAX 512

#define UNUSED __attribute__((unused))

enum packet_kind {
	PACKET_OTHER = 0,
	PACKET_FLOW,	 /* TCP, UDP or SCTP, whole or a first fragment */
	PACKET_FRAGMENT, /* a later fragment: it has no ports */
	PACKET_ECHO_REQUEST,
	PACKET_ICMP_ERROR,
	PACKET_ICMP_REDIRECT,
	PACKET_ARP,
	PACKET_NEIGHBOUR_SOLICITATION,
	PACKET_NEIGHBOUR_ADVERTISEMENT,
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Which piece of a datagram a packet is. */
enum piece {
	PIECE_WHOLE = 0,
	PIECE_FIRST,
	PIECE_LATER,
};

struct pkt {
	struct tuple tuple; /* as it arrived; with the hook under which its flow stands */
	__u32 l3;
	__u32 l4;
	__u32 length;  /* of the network layer, whole packet */
	__u32 segment; /* the same for one segment of a GSO packet: what must fit an MTU */
	__u32 sequence;	       /* of SCTP the verification tag */
	__u32 acknowledgement; /* of SCTP's INIT and INIT ACK the tag that the other side is to use */
	int action; /* what a redirect helper returned, for VERDICT_FORWARD and replies */
	__u32 stranger; /* no established flow has it: asked before it was parsed */
	__u32 id;	/* of the datagram, when this is a piece of it */
	__u8 kind;	/* enum packet_kind */
	__u8 v6;
	__u8 tcp_flags;
	__u8 ttl;
	__u8 piece;	  /* enum piece */
	__u8 options;	  /* IPv4 options: their length in bytes */
	__u8 source_route; /* IPv6: a routing header with segments left */
	__u8 chunk; /* type of SCTP's first chunk */
	__u32 service; /* whose frontend it asked, or whose flow it is of; 0 when that is nobody's */
};

/* Offset of the checksum in the transport header. */
static __always_inline __u32 checksum_offset(__u8 proto)
{
	return proto == IPPROTO_TCP ? 16 : proto == IPPROTO_SCTP ? SCTP_CHECKSUM : 6;
}

/* May the packet open a conversation that nobody heard of? UDP knows no first packet. */
static __always_inline bool opens_handshake(const struct pkt *p)
{
	if (p->tuple.proto == IPPROTO_TCP)
		return (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	return p->tuple.proto != IPPROTO_SCTP || p->chunk == SCTP_INIT;
}

/* The second packet of a handshake answers somebody, and opens nothing. */
static __always_inline bool answers_handshake(const struct pkt *p)
{
	if (p->tuple.proto == IPPROTO_TCP)
		return (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
	return p->tuple.proto == IPPROTO_SCTP && p->chunk == SCTP_INIT_ACK;
}

/* Ends a conversation, and is never answered. */
static __always_inline bool is_reset(const struct pkt *p)
{
	if (p->tuple.proto == IPPROTO_TCP)
		return p->tcp_flags & TCP_RST;
	return p->tuple.proto == IPPROTO_SCTP && (p->chunk == SCTP_ABORT || p->chunk == SCTP_SHUTDOWN_COMPLETE);
}

static __always_inline bool parse_sctp(ctx_t *ctx, struct pkt *p, __u32 *header)
{
	__be32 *words = ctx_at(ctx, p->l4, SCTP_HEADER);

	if (!words)
		return false;
	p->tuple.source_port = ((__be16 *)words)[0];
	p->tuple.destination_port = ((__be16 *)words)[1];
	p->sequence = bpf_ntohl(words[1]);
	*header = SCTP_HEADER;
	words = ctx_at(ctx, p->l4 + SCTP_HEADER, 8);
	if (words) {
		p->chunk = *(__u8 *)words;
		p->acknowledgement = bpf_ntohl(words[1]);
	}
	return true;
}

/* Fills the ports and, for TCP, flags, numbers and the header's length; returns false when the header is cut. */
static __always_inline bool parse_ports(ctx_t *ctx, struct pkt *p, __u32 *header)
{
	if (p->tuple.proto == IPPROTO_TCP) {
		struct tcphdr *tcp = ctx_at(ctx, p->l4, sizeof(*tcp));

		if (!tcp)
			return false;
		p->tuple.source_port = tcp->source;
		p->tuple.destination_port = tcp->dest;
		p->sequence = bpf_ntohl(tcp->seq);
		p->acknowledgement = bpf_ntohl(tcp->ack_seq);
		p->tcp_flags = ((__u8 *)tcp)[13];
		*header = tcp->doff * 4;
		return true;
	}
	if (p->tuple.proto == IPPROTO_SCTP)
		return parse_sctp(ctx, p, header);
	struct udphdr *udp = ctx_at(ctx, p->l4, sizeof(*udp));

	if (!udp)
		return false;
	p->tuple.source_port = udp->source;
	p->tuple.destination_port = udp->dest;
	*header = sizeof(*udp);
	return true;
}

/* What kind of packet the transport layer makes it. */
static __always_inline enum packet_kind parse_transport(ctx_t *ctx, struct pkt *p, bool fragment, bool first)
{
	__u32 header = 0;
	__u32 gso;

	if (fragment)
		p->piece = first ? PIECE_FIRST : PIECE_LATER;
	if (p->tuple.proto == IPPROTO_TCP || p->tuple.proto == IPPROTO_UDP || p->tuple.proto == IPPROTO_SCTP) {
		if (fragment && !first)
			return PACKET_FRAGMENT;
		if (!parse_ports(ctx, p, &header))
			return PACKET_OTHER;
		gso = ctx_gso_size(ctx);
		/* Those of SCTP were cut to their sender's path MTU, which nobody tells. */
		if (gso == GSO_BY_FRAGS)
			gso = 0;
		else if (!gso)
			gso = p->length - (p->l4 - p->l3) - header;
		p->segment = p->l4 - p->l3 + header + gso;
		return PACKET_FLOW;
	}
	if (fragment)
		return PACKET_OTHER;
	if (p->tuple.proto == IPPROTO_ICMP && !p->v6) {
		struct icmp_header *icmp = ctx_at(ctx, p->l4, sizeof(*icmp));

		if (!icmp)
			return PACKET_OTHER;
		switch (icmp->type) {
		case ICMP_ECHO:
			return PACKET_ECHO_REQUEST;
		case ICMP_REDIRECT:
			return PACKET_ICMP_REDIRECT;
		case ICMP_DEST_UNREACH:
		case ICMP_TIME_EXCEEDED:
		case ICMP_PARAMETERPROB:
			return PACKET_ICMP_ERROR;
		}
		return PACKET_OTHER;
	}
	if (p->tuple.proto == IPPROTO_ICMPV6 && p->v6) {
		struct icmp_header *icmp = ctx_at(ctx, p->l4, sizeof(*icmp));

		if (!icmp)
			return PACKET_OTHER;
		switch (icmp->type) {
		case ICMPV6_ECHO_REQUEST:
			return PACKET_ECHO_REQUEST;
		case ICMPV6_NEIGHBOUR_SOLICITATION:
			return PACKET_NEIGHBOUR_SOLICITATION;
		case ICMPV6_NEIGHBOUR_ADVERTISEMENT:
			return PACKET_NEIGHBOUR_ADVERTISEMENT;
		case ICMPV6_REDIRECT:
			return PACKET_ICMP_REDIRECT;
		case ICMPV6_DEST_UNREACH:
		case ICMPV6_PKT_TOOBIG:
		case ICMPV6_TIME_EXCEED:
		case ICMPV6_PARAMPROB:
			return PACKET_ICMP_ERROR;
		}
	}
	return PACKET_OTHER;
}

static __always_inline enum packet_kind parse_v4(ctx_t *ctx, struct pkt *p)
{
	struct iphdr *ip = ctx_at(ctx, p->l3, sizeof(*ip));
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return PACKET_OTHER;
	address_from_v4(&p->tuple.source, ip->saddr);
	address_from_v4(&p->tuple.destination, ip->daddr);
	p->tuple.proto = ip->protocol;
	p->ttl = ip->ttl;
	p->l4 = p->l3 + ip->ihl * 4;
	p->options = (__u8)(ip->ihl * 4 - sizeof(*ip));
	p->id = ip->id;
	p->length = bpf_ntohs(ip->tot_len);
	p->segment = p->length;
	fragment = bpf_ntohs(ip->frag_off);
	return parse_transport(ctx, p, fragment & 0x3fff, !(fragment & 0x1fff));
}

static __always_inline enum packet_kind parse_v6(ctx_t *ctx, struct pkt *p)
{
	struct ipv6hdr *ip = ctx_at(ctx, p->l3, sizeof(*ip));
	bool fragment = false, first = true;
	__u8 next;

	if (!ip || ip->version != 6)
		return PACKET_OTHER;
	address_from_v6(&p->tuple.source, &ip->saddr);
	address_from_v6(&p->tuple.destination, &ip->daddr);
	p->v6 = 1;
	p->ttl = ip->hop_limit;
	p->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	p->segment = p->length;
	p->l4 = p->l3 + sizeof(*ip);
	next = ip->nexthdr;
	for (int i = 0; i < 4; i++) {
		__u8 *header;

		if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_FRAGMENT && next != NEXT_DESTINATION)
			break;
		header = ctx_at(ctx, p->l4, 8);
		if (!header)
			return PACKET_OTHER;
		if (next == NEXT_FRAGMENT) {
			__u16 offset = ((__u16)header[2] << 8) | header[3];

			/* A piece of a piece is nobody's. */
			if (p->id)
				return PACKET_OTHER;
			fragment = (offset & 0xfff9) != 0;
			first = (offset & 0xfff8) == 0;
			p->id = *(__u32 *)(header + 4);
			next = header[0];
			p->l4 += 8;
			/* Behind a later piece's header stands the middle of something. */
			if (!first)
				break;
			continue;
		}
		if (next == NEXT_ROUTING && header[3])
			p->source_route = 1;
		next = header[0];
		p->l4 += ((__u32)header[1] + 1) * 8;
		if (p->l4 > HEADERS_MAX)
			return PACKET_OTHER;
	}
	p->tuple.proto = next;
	return parse_transport(ctx, p, fragment, first);
}

/* Parses a packet whose link-layer header has `link` bytes: 14, or 0 on devices without one. `hook` is that of its flows. */
static __always_inline void parse(ctx_t *ctx, struct pkt *p, enum hook hook, const __u32 link)
{
	__be16 protocol;

	__builtin_memset(p, 0, sizeof(*p));
	p->l3 = link;
	p->tuple.hook = hook;
	if (link) {
		struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth));

		if (!eth)
			return;
		protocol = eth->h_proto;
	} else {
		protocol = ctx_protocol(ctx);
	}
	if (protocol == bpf_htons(ETH_P_IP))
		p->kind = parse_v4(ctx, p);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		p->kind = parse_v6(ctx, p);
	else if (protocol == bpf_htons(ETH_P_ARP))
		p->kind = PACKET_ARP;
}
