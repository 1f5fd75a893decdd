/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The question whether this node lives, which another node asks by a keyed datagram, is answered here (tc ingress of uplinks), so that a
 * dead agent or a blocked loop is no dead node: the answer tells how long ago the agent renewed what it announces. What does not verify
 * goes on as it came, so that nobody learns anything of it. The UDP checksum is not looked at, as the tag covers all that counts.
 */
#pragma once
#include "finish.h"
#include "frontend.h"
#include "refuse.h"
#include "siphash.h"

#define LIVENESS_MAGIC 0x4d4c4c56 /* "MLLV" */
#define LIVENESS_VERSION 1
#define LIVENESS_LENGTH (sizeof(struct udphdr) + sizeof(struct liveness_message))
/* A CPU answers so many in a second: more than a thousand nodes ask, and little beside what it can. */
#define LIVENESS_ANSWERS 8192
#define LIVENESS_NEVER 0xffffffffU

static __always_inline bool asks_liveness(const struct pkt *p)
{
	struct liveness *own;

	if (p->tuple.proto != IPPROTO_UDP || p->piece != PIECE_WHOLE)
		return false;
	own = liveness_get();
	return own && own->port && p->tuple.destination_port == (__be16)own->port;
}

static __always_inline bool liveness_allowed(struct scratch *x)
{
	const struct settings *s = settings_get();
	__u32 now = jiffies_now();

	if (!s || !config_records)
		return true;
	if (now - x->answers_since >= s->hz) {
		x->answers_since = now;
		x->answers = 0;
	}
	return x->answers++ < LIVENESS_ANSWERS;
}

/* Somebody who can be answered: one address of another machine. */
static __always_inline bool is_other_host(const struct pkt *p)
{
	const struct address *a = &p->tuple.source;
	__u32 first = address_is_v4(a) ? (__u32)address_to_v4(a) & 0xff : (__u32)a->half[0] & 0xff;

	if (address_is_own(a) || (address_is_v4(a) ? first >= 224 : first == 0xff))
		return false;
	return p->tuple.source_port && !(address_roles(a) & ADDRESS_NODE);
}

/* The key of the scratch's message; LIVENESS_KEYS: it is no valid question. */
static __always_inline __u32 liveness_key_of(struct scratch *x, const struct liveness *own)
{
	const struct liveness_message *m = &x->message;
	__u32 i;

	if (m->magic != bpf_htonl(LIVENESS_MAGIC) || m->version != LIVENESS_VERSION || m->kind != LIVENESS_QUESTION)
		return LIVENESS_KEYS;
#pragma clang loop unroll(disable)
	for (i = 0; i < LIVENESS_KEYS; i++) {
		if (own->keys[i].id == (0x100U | m->key) && !liveness_tag(i) && x->tag == m->tag)
			break;
	}
	return i;
}

/* Makes the scratch's question the answer to it. */
static __always_inline void liveness_fill(struct liveness_message *m, const struct liveness *own)
{
	__u64 now = bpf_ktime_get_boot_ns(), renewed = own->renewed, age;

	m->kind = LIVENESS_ANSWER;
	m->flags = (__u8)own->flags;
	m->node = bpf_cpu_to_be64(own->node);
	m->incarnation = bpf_cpu_to_be64(own->incarnation);
	age = renewed && now > renewed ? (now - renewed) / 1000000 : 0;
	m->age = bpf_htonl(!renewed || age > LIVENESS_NEVER ? LIVENESS_NEVER : (__u32)age);
	m->reserved = 0;
	for (int i = 0; i < LIVENESS_MACS_SENT; i++) {
		__u64 mac = own->macs[i];

		__builtin_memcpy(m->macs[i], &mac, ETH_ALEN);
	}
}

/* Answers the scratch's packet, or returns UNDECIDED for one that is no valid question. A global function: it takes nothing of the stack of
 * the stages that come after it.
 */
__noinline int answer_liveness(ctx_t *ctx, __u32 link)
{
	struct scratch *x = scratch_get();
	struct liveness *own = liveness_get();
	struct udphdr *udp;
	__u32 key, plain;
	struct pkt *p;
	bool partial;
	__u64 sum;

	if (!x || !own)
		return UNDECIDED;
	p = &x->packet;
	plain = p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (p->l4 != p->l3 + plain || p->length != plain + LIVENESS_LENGTH || ctx_gso_size(ctx))
		return UNDECIDED;
	udp = ctx_at(ctx, p->l4, sizeof(*udp));
	if (!udp || udp->len != bpf_htons(LIVENESS_LENGTH))
		return UNDECIDED;
	if (!(address_roles(&p->tuple.destination) & ADDRESS_NODE) || !is_other_host(p))
		return UNDECIDED;
	if (bpf_skb_load_bytes(ctx, p->l4 + sizeof(*udp), &x->message, sizeof(x->message)))
		return UNDECIDED;
	key = liveness_key_of(x, own);
	if (key >= LIVENESS_KEYS)
		return UNDECIDED;
	if (!liveness_allowed(x))
		return DROP_REPLY_LIMIT;

	liveness_fill(&x->message, own);
	if (liveness_tag(key))
		return UNDECIDED;
	x->message.tag = x->tag;
	partial = checksum_is_partial(ctx, p);
	tuple_reverse(&p->tuple, &x->reply);
	if (!reply_header(ctx, p, &x->reply, IPPROTO_UDP, LIVENESS_LENGTH))
		return DROP_REWRITE;
	sum = pseudo_sum(&x->reply, IPPROTO_UDP, LIVENESS_LENGTH);
	if (!partial) {
		sum += x->reply.source_port;
		sum += x->reply.destination_port;
		sum += bpf_htons(LIVENESS_LENGTH);
#pragma clang loop unroll(disable)
		for (__u32 i = 0; i < sizeof(x->message) / 4; i++)
			sum += x->words[i];
		sum = (__u16)~sum_fold16(sum_fold32(sum));
		sum = sum ? sum : 0xffff;
	} else {
		sum = sum_fold16(sum_fold32(sum));
	}
	if (bpf_skb_store_bytes(ctx, p->l4 + sizeof(*udp), &x->message, sizeof(x->message), 0))
		return DROP_REWRITE;
	udp = ctx_at(ctx, p->l4, sizeof(*udp));
	if (!udp)
		return DROP_REWRITE;
	udp->source = x->reply.source_port;
	udp->dest = x->reply.destination_port;
	udp->check = (__u16)sum;
	return redirect_back(ctx, p, VERDICT_LIVENESS, link);
}
