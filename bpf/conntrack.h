/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What netfilter's connection tracking knows of a packet, in the network namespace of its device (tc only). It sees what we left to
 * the stack, after it was translated: of connections through a frontend it knows the backends' addresses, never a frontend's.
 *
 * Compiled in by tc_conntrack.bpf.c alone. A call of a kernel function cannot be left in dead code everywhere: Linux 5.13 to 5.15
 * refuse one that was not resolved, and libbpf takes no object with one where the kernel tells no types.
 */
#pragma once
#include "scratch.h"

/* Bits. None: it has no such connection, or is not asked. */
enum conntrack_entry {
	CONNTRACK_KNOWN = 1,
	CONNTRACK_ANSWER = 2, /* the packet is of the direction that answers */
	CONNTRACK_DNAT = 4,   /* its destination is translated */
	CONNTRACK_SNAT = 8,   /* its source is, and its destination is not */
};

/* A tuple's ends, for a lookup. Returns how many bytes of them count. */
static __always_inline __u32 tuple_ends(const struct tuple *t, bool v6, struct bpf_sock_tuple *ends)
{
	if (v6) {
		address_to_v6(&t->source, (struct in6_addr *)ends->ipv6.saddr);
		address_to_v6(&t->destination, (struct in6_addr *)ends->ipv6.daddr);
		ends->ipv6.sport = t->source_port;
		ends->ipv6.dport = t->destination_port;
		return sizeof(ends->ipv6);
	}
	ends->ipv4.saddr = address_to_v4(&t->source);
	ends->ipv4.daddr = address_to_v4(&t->destination);
	ends->ipv4.sport = t->source_port;
	ends->ipv4.dport = t->destination_port;
	return sizeof(ends->ipv4);
}

#ifdef ASKS_CONNTRACK

/* As of Linux 5.18: later ones append zones, and take this size still. */
struct conntrack_options {
	__s32 netns_id;
	__s32 error;
	__u8 proto;
	__u8 direction; /* enum ip_conntrack_dir: 1 answers */
	__u8 reserved[2];
};

/* Of enum ip_conntrack_status. */
#define IPS_SRC_NAT (1 << 4)
#define IPS_DST_NAT (1 << 5)

/* What is read of the entry: libbpf finds its place in the kernel's own structure, which kernels with the functions below describe. */
struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *ctx, struct bpf_sock_tuple *ends, __u32 ends_size,
					 struct conntrack_options *options, __u32 options_size) __ksym;
extern void bpf_ct_release(struct nf_conn *connection) __ksym;

/* Asks for the connection that has packets of this tuple. Returns enum conntrack_entry. */
static __always_inline int conntrack_find(struct __sk_buff *ctx, const struct tuple *t, bool v6)
{
	struct conntrack_options options = { .netns_id = BPF_F_CURRENT_NETNS, .proto = t->proto };
	struct bpf_sock_tuple ends = {};
	struct nf_conn *connection;
	__u32 size = tuple_ends(t, v6, &ends);
	unsigned long status;
	int known;

	connection = bpf_skb_ct_lookup(ctx, &ends, size, &options, sizeof(options));
	if (!connection)
		return 0;
	status = connection->status;
	bpf_ct_release(connection);
	known = CONNTRACK_KNOWN | (options.direction ? CONNTRACK_ANSWER : 0);
	if (status & IPS_DST_NAT)
		return known | CONNTRACK_DNAT;
	return status & IPS_SRC_NAT ? known | CONNTRACK_SNAT : known;
}

/* Asks conntrack for the scratch's packet, TCP or UDP. Returns enum conntrack_entry. A global function, for the verifier's sake. */
__noinline int conntrack_ask(struct __sk_buff *ctx)
{
	struct scratch *x = scratch_get();
	int known, other;
	struct pkt *p;

	if (!x)
		return 0;
	p = &x->packet;
	known = conntrack_find(ctx, &p->tuple, p->v6);
	if (!known || (known & (CONNTRACK_DNAT | CONNTRACK_SNAT)))
		return known;
	/* What IPVS translates has no mark of NAT; but its other direction has not these ends, exchanged. */
	tuple_reverse(&p->tuple, &x->inverse);
	other = conntrack_find(ctx, &x->inverse, p->v6);
	return other && ((known ^ other) & CONNTRACK_ANSWER) ? known : known | CONNTRACK_DNAT;
}

/* Does the scratch's packet, on its way out, answer a request whose destination another proxy translated? Its own source is translated
 * back by then, so that conntrack has no such tuple, but the request's. A global function, for the verifier's sake.
 */
__noinline int conntrack_answers_dnat(struct __sk_buff *ctx)
{
	struct scratch *x = scratch_get();

	if (!x || x->packet.tuple.proto == IPPROTO_SCTP)
		return 0;
	tuple_reverse(&x->packet.tuple, &x->inverse);
	return (conntrack_find(ctx, &x->inverse, x->packet.v6) & (CONNTRACK_DNAT | CONNTRACK_ANSWER)) == CONNTRACK_DNAT;
}

#else

static __always_inline int conntrack_ask(struct __sk_buff *ctx)
{
	return 0;
}

static __always_inline int conntrack_answers_dnat(struct __sk_buff *ctx)
{
	return 0;
}

#endif
