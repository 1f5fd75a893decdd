/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers that the dataplane gives itself (tc only): TCP reset, ICMP errors, echo replies. They leave the way the packet
 * came.
 *
 * A packet of a local sender may carry a partial checksum that a later device completes, over what we made of it. That state
 * is not readable here, but it shows: the checksum field then holds just the pseudo header's sum. Resets keep the field in
 * that form; ICMP errors leave the quoted packet where it lies, wrap it from outside, and reckon with the completed value.
 *
 * Replies are global functions, verified once a program and not for every way that leads to them. Before 5.12 those take
 * nothing but the context and numbers: the packet is the one in the scratch. `link` is the length of its link-layer header.
 */
#pragma once
#include "flow.h"
#include "rewrite.h"
#include "route.h"

#define QUOTE_MAX sizeof(((struct scratch *)0)->words) /* bytes of the transport part that an ICMP error quotes */
#define HEADER_MAX 120 /* network header with its options or extension headers */
#define REPLY_TTL 64
/* Of SCTP less is quoted: its checksum may have to be completed. Enough for the tag by which the sender knows its INIT (RFC 9260 appendix B). */
#define SCTP_QUOTE_MAX 32

static __always_inline __u32 pseudo_sum(const struct tuple *t, __u8 proto, __u32 length)
{
	return sum_fold32(sum_address(&t->source) + sum_address(&t->destination) + bpf_htons(proto) +
			  bpf_htons((__u16)length));
}

/* Does the transport checksum wait for a device to complete it? */
static __always_inline bool checksum_is_partial(ctx_t *ctx, const struct pkt *p)
{
	__u16 *field;

	if (p->tuple.proto == IPPROTO_SCTP) {
		__u32 *sum = ctx_at(ctx, p->l4 + SCTP_CHECKSUM, 4);

		return sum && !*sum;
	}
	field = ctx_at(ctx, p->l4 + checksum_offset(p->tuple.proto), 2);
	return field && *field == sum_fold16(pseudo_sum(&p->tuple, p->tuple.proto, p->length - (p->l4 - p->l3)));
}

/* How a reply gets to the sender from this hook. */
static __always_inline enum verdict reply_out(ctx_t *ctx, struct pkt *p, enum hook hook, enum verdict verdict,
					      const __u32 link)
{
	if (hook == HOOK_UPLINK_EGRESS)
		return redirect_in(ctx, p, ctx_ifindex(ctx), verdict, link);
	if (hook == HOOK_POD_EGRESS)
		return redirect_from_pod(ctx, p, verdict);
	return redirect_back(ctx, p, verdict, link);
}

/* May this CPU make another reply? Who asks with spoofed sources is not answered at the line's rate.
 * Those that tell a size are counted apart: without them a flow would stand.
 */
static __always_inline bool reply_allowed(struct scratch *x, bool size)
{
	const struct settings *s = settings_get();
	__u32 now = jiffies_now();

	if (!s || !config_records)
		return true;
	if (now - x->replies_since >= s->hz) {
		x->replies_since = now;
		x->replies = 0;
		x->sizes = 0;
	}
	return (size ? x->sizes++ : x->replies++) < s->replies;
}

static __always_inline __u16 sum_words(const __u32 *words, const int count)
{
	__u64 sum = 0;

	for (int i = 0; i < count; i++)
		sum += words[i];
	return (__u16)~sum_fold16(sum_fold32(sum));
}

/* A plain network header of ours around `length` bytes, in place of whatever the packet has at `p->l3`. */
static __always_inline bool reply_header(ctx_t *ctx, const struct pkt *p, const struct tuple *ends, __u8 proto, __u32 length)
{
	if (p->v6) {
		struct ipv6hdr *ip = ctx_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return false;
		*(__u32 *)ip = bpf_htonl(0x60000000);
		ip->payload_len = bpf_htons((__u16)length);
		ip->nexthdr = proto;
		ip->hop_limit = REPLY_TTL;
		address_to_v6(&ends->source, &ip->saddr);
		address_to_v6(&ends->destination, &ip->daddr);
	} else {
		struct iphdr *ip = ctx_at(ctx, p->l3, sizeof(*ip));

		if (!ip)
			return false;
		ip->version = 4;
		ip->ihl = 5;
		ip->tos = 0;
		ip->tot_len = bpf_htons((__u16)(length + sizeof(*ip)));
		ip->id = 0;
		ip->frag_off = 0;
		ip->ttl = REPLY_TTL;
		ip->protocol = proto;
		ip->check = 0;
		ip->saddr = address_to_v4(&ends->source);
		ip->daddr = address_to_v4(&ends->destination);
		ip->check = sum_words((const __u32 *)ip, 5);
	}
	return true;
}

/* RFC 9293 section 3.10.7.1: the reset that answers this segment, with a plain header of ours. */
__noinline int refuse_tcp(ctx_t *ctx, __u32 hook, __u32 link)
{
	__u32 payload, header, plain, sum, acknowledges;
	struct scratch *x = scratch_get();
	struct tcphdr *tcp;
	struct pkt *p;
	__u32 *words;
	bool partial;

	if (!x)
		return DROP_REWRITE;
	p = &x->packet;
	partial = checksum_is_partial(ctx, p);
	tcp = ctx_at(ctx, p->l4, sizeof(*tcp));
	if (!tcp)
		return DROP_PORT_UNKNOWN;
	header = p->l4 - p->l3;
	plain = p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	/* A device would complete the checksum where it was meant to be. */
	if (partial && header != plain)
		return DROP_PORT_UNKNOWN;
	payload = p->length - header - tcp->doff * 4;
	acknowledges = p->sequence + payload + (p->tcp_flags & TCP_SYN ? 1 : 0) + (p->tcp_flags & TCP_FIN ? 1 : 0);
	if (bpf_skb_change_tail(ctx, p->l3 + plain + sizeof(*tcp), 0))
		return DROP_REWRITE;
	tuple_reverse(&p->tuple, &x->reply);
	if (!reply_header(ctx, p, &x->reply, IPPROTO_TCP, sizeof(*tcp)))
		return DROP_REWRITE;
	words = ctx_at(ctx, p->l3 + plain, sizeof(*tcp));
	if (!words)
		return DROP_REWRITE;
	tcp = (struct tcphdr *)words;
	tcp->source = x->reply.source_port;
	tcp->dest = x->reply.destination_port;
	/* Header length in words, then the flags. */
	if (p->tcp_flags & TCP_ACK) {
		tcp->seq = bpf_htonl(p->acknowledgement);
		tcp->ack_seq = 0;
		words[3] = bpf_htonl(0x50040000);
	} else {
		tcp->seq = 0;
		tcp->ack_seq = bpf_htonl(acknowledges);
		words[3] = bpf_htonl(0x50140000);
	}
	words[4] = 0;
	sum = pseudo_sum(&x->reply, IPPROTO_TCP, sizeof(*tcp));
	if (partial)
		tcp->check = sum_fold16(sum);
	else
		tcp->check = (__u16)~sum_fold16(sum_fold32((__u64)sum + words[0] + words[1] + words[2] + words[3]));
	return reply_out(ctx, p, hook, VERDICT_REFUSE, link);
}

/* Copies `length` bytes of the packet, a multiple of 4 up to QUOTE_MAX, to x->words, zeros behind, and adds them up: one bounds
 * check, where one for each word would have the verifier walk every length.
 */
static __always_inline bool sum_bytes(ctx_t *ctx, struct scratch *x, __u32 offset, __u64 length, __u64 *sum)
{
	__builtin_memset(x->words, 0, sizeof(x->words));
	length -= 4;
	asm volatile("%0 &= %1" : "+r"(length) : "i"(QUOTE_MAX - 4));
	if (bpf_skb_load_bytes(ctx, offset, x->words, (__u32)length + 4))
		return false;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < QUOTE_MAX / 4; i++)
		*sum += x->words[i];
	return true;
}

/* The checksum that a device will put over the SCTP packet of `length` bytes, a multiple of 4, whose first ones are in the scratch's words. A
 * global function, for the verifier's sake.
 */
__noinline int crc32c_complete(__u32 length)
{
	struct scratch *x = scratch_get();
	__u32 sum = ~0U;

	if (!x)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SCTP_QUOTE_MAX / 4; i++) {
		if (i * 4 < length)
			sum = crc32c_multiply(sum ^ x->words[i], crc32c_powers[0][4]);
	}
	return (int)~sum;
}

/* Lets a reply come from this node's own address on the device that it leaves by, where it has one. */
static __always_inline void reply_from_node(ctx_t *ctx, bool v6, struct tuple *back)
{
	struct device *device = device_of(ctx_ifindex(ctx));
	const struct address *own;

	if (!device)
		return;
	own = v6 ? &device->source6 : &device->source4;
	if (address_is_set(own))
		back->source = *own;
}

/* Type and code of the error that a verdict stands for, as the first half of its header: of IPv6 packet too big 2/0 and port unreachable
 * 1/4 (RFC 4443), of IPv4 fragmentation needed 3/4 (RFC 1191) and port unreachable 3/3; time exceeded in transit 3/0 and 11/0.
 */
static __always_inline __be32 icmp_error(enum verdict verdict, bool v6)
{
	if (verdict == VERDICT_TOO_BIG)
		return v6 ? bpf_htonl(0x02000000) : bpf_htonl(0x03040000);
	if (verdict == VERDICT_TIME_EXCEEDED)
		return v6 ? bpf_htonl(0x03000000) : bpf_htonl(0x0b000000);
	return v6 ? bpf_htonl(0x01040000) : bpf_htonl(0x03030000);
}

/* Wraps the packet in an ICMP error (RFC 792, RFC 4443) from the address that the client talked to; the end of its hops is told as by any
 * router, from this node's own address, unless it is this node that is told.
 */
__noinline int reply_icmp(ctx_t *ctx, __u32 hook, __u32 verdict, __u32 link)
{
	struct scratch *x = scratch_get();
	__u32 room, header, quote, outer, mtu;
	__u64 sum = 0, covered = 0;
	struct tuple *back;
	struct pkt *p;
	bool partial;
	__u32 *icmp;

	if (!x)
		return DROP_REWRITE;
	p = &x->packet;
	back = &x->reply;
	room = p->v6 ? sizeof(struct ipv6hdr) + 8 : sizeof(struct iphdr) + 8;
	mtu = verdict == VERDICT_TOO_BIG ? x->fib.mtu_result : 0;
	partial = checksum_is_partial(ctx, p);
	header = p->l4 - p->l3;
	quote = p->length;
	if (quote > header + QUOTE_MAX)
		quote = header + QUOTE_MAX;
	if (p->tuple.proto == IPPROTO_SCTP && quote > header + SCTP_QUOTE_MAX)
		quote = header + SCTP_QUOTE_MAX;
	quote &= ~3U;
	if (header > HEADER_MAX || quote < header + sizeof(struct udphdr))
		return DROP_PORT_UNKNOWN;
	/* What is behind the end that the header tells is no checksum of it. */
	if (partial && quote < header + checksum_offset(p->tuple.proto) + 2)
		partial = false;
	if (bpf_skb_change_tail(ctx, p->l3 + quote, 0))
		return DROP_REWRITE;
	if (bpf_skb_adjust_room(ctx, (__s32)room, BPF_ADJ_ROOM_MAC, 0))
		return DROP_REWRITE;
	tuple_reverse(&p->tuple, back);
	if (verdict == VERDICT_TIME_EXCEEDED && hook != HOOK_UPLINK_EGRESS)
		reply_from_node(ctx, p->v6, back);

	/* The quoted packet, as it will be read: with its checksum completed when it was partial. */
	if (!sum_bytes(ctx, x, p->l3 + room, header, &sum) || !sum_bytes(ctx, x, p->l4 + room, quote - header, &covered))
		return DROP_REWRITE;
	sum += covered;
	if (partial && p->tuple.proto == IPPROTO_SCTP) {
		sum += (__u32)crc32c_complete(quote - header);
	} else if (partial) {
		__u16 seed = (__u16)(p->tuple.proto == IPPROTO_TCP ? x->words[4] : x->words[1] >> 16);
		__u16 completed = (__u16)~sum_fold16(sum_fold32(covered));

		sum += (__u16)~seed;
		sum += completed ? completed : 0xffff;
	}

	outer = quote + 8;
	if (!reply_header(ctx, p, back, p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, outer))
		return DROP_REWRITE;
	icmp = ctx_at(ctx, p->l3 + room - 8, 8);
	if (!icmp)
		return DROP_REWRITE;
	icmp[0] = icmp_error(verdict, p->v6);
	if (p->v6)
		sum += pseudo_sum(back, IPPROTO_ICMPV6, outer);
	icmp[1] = bpf_htonl(mtu);
	sum += icmp[0];
	sum += icmp[1];
	((__u16 *)icmp)[1] = (__u16)~sum_fold16(sum_fold32(sum));
	return reply_out(ctx, p, hook, verdict, link);
}

__noinline int reply_echo(ctx_t *ctx, __u32 hook, __u32 link)
{
	struct scratch *x = scratch_get();
	__u32 header, plain;
	struct pkt *p;
	__u16 before;
	__u16 *icmp;

	if (!x)
		return DROP_REWRITE;
	p = &x->packet;
	header = p->l4 - p->l3;
	plain = p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (header > HEADER_MAX || header < plain || p->length < header + sizeof(struct icmp_header))
		return DROP_PORT_UNKNOWN;
	if (header != plain && bpf_skb_adjust_room(ctx, (__s32)plain - (__s32)header, BPF_ADJ_ROOM_NET, 0))
		return DROP_REWRITE;
	tuple_reverse(&p->tuple, &x->reply);
	if (!reply_header(ctx, p, &x->reply, p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, p->length - header))
		return DROP_REWRITE;
	icmp = ctx_at(ctx, p->l3 + plain, 4);
	if (!icmp)
		return DROP_REWRITE;
	/* Addresses swapped add up to the same: only the type differs. */
	before = icmp[0];
	*(__u8 *)icmp = p->v6 ? 129 : 0;
	icmp[1] = sum_apply(icmp[1], (__u32)(__u16)~before + icmp[0]);
	return reply_out(ctx, p, hook, VERDICT_ECHO, link);
}
