/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opening a flow: its two entries, and the pair of ports that is nobody else's. Never touches packets. */
#pragma once
#include "flow.h"

#define SOURCE_PORT_TRIES 32
#define EEXIST 17

/* Is a reverse tuple that stands in our way the reverse of this very flow? */
static __always_inline bool reverse_is_ours(const struct flow *reverse, const struct tuple *reverse_write)
{
	return tuple_equal(&reverse->write, reverse_write) && reverse->answer;
}

/* A UDP conversation whose backend was retired gets no answers any more, but for those under way: another pod with the same
 * address by now may have the port. A TCP connection may live on with the old pod.
 */
static __always_inline bool reverse_is_over(const struct flow *reverse, const struct settings *s)
{
	return reverse->write.proto == IPPROTO_UDP && reverse->path != PATH_PORT_CHANGE &&
	       jiffies_now() - reverse->seen > 5 * s->hz && !backend_alive(reverse->backend, reverse->generation);
}

enum claim {
	CLAIM_TRY_NEXT, /* the tuple is another flow's */
	CLAIMED,
	CLAIM_ADOPTED,	/* it is this flow's already, established: `f` took its word */
	CLAIM_FAILED,
};

/* An opening of which nothing was heard for so many seconds gives its pair of ports up to another, when others are hard to find: else a
 * slow flood of first packets, or a client that asks each question from another port, would hold them all.
 */
#define STALE_OPENING_SECONDS 3

static __always_inline bool opening_is_stale(const struct flow *reverse, const struct settings *s)
{
	return reverse->path != PATH_PORT_CHANGE && !(reverse->state & STATE_MIDSTREAM) &&
	       jiffies_now() - reverse->seen > STALE_OPENING_SECONDS * s->hz;
}

/* Makes the tuple of the answers, in the scratch, that of the scratch's flow; `press`: by pressing others, see above. Returns enum
 * claim. A global function, which the verifier walks once and not for every port that is tried.
 */
__noinline int flow_claim(__u32 midstream, __u32 press)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_get();
	struct flow *there, *f;
	int error;

	if (!s || !x)
		return CLAIM_FAILED;
	f = &x->flow;
	there = table_lookup(TABLE_ESTABLISHED, &x->partner_key);
	if (there) {
		if (!reverse_is_ours(there, &x->partner.write)) {
			if (!reverse_is_over(there, s))
				return CLAIM_TRY_NEXT;
		} else if (midstream) { /* the forward half was evicted: take the other half's word for it */
			f->state = there->state;
			f->backend = there->backend;
			f->generation = there->generation;
			f->service = there->service;
			return CLAIM_ADOPTED;
		}
		table_delete(TABLE_ESTABLISHED, &x->partner_key);
	}
	error = table_insert(TABLE_OPENINGS, &x->partner_key, &x->partner, BPF_NOEXIST);
	if (!error)
		return CLAIMED;
	if (error != -EEXIST)
		return CLAIM_FAILED;
	there = table_lookup(TABLE_OPENINGS, &x->partner_key);
	if (!there)
		return CLAIM_TRY_NEXT;
	if (!reverse_is_ours(there, &x->partner.write) && !reverse_is_over(there, s)) {
		if (!press || !opening_is_stale(there, s))
			return CLAIM_TRY_NEXT;
		/* Its request's entry would go on to use the pair. */
		tuple_reverse(&there->write, &x->copy.write);
		table_delete(TABLE_OPENINGS, &x->copy.write);
	}
	/* It remembers an answer that the forward half at hand did not see: both begin anew. */
	return table_insert(TABLE_OPENINGS, &x->partner_key, &x->partner, BPF_ANY) ? CLAIM_FAILED : CLAIMED;
}

/* A client that has its share of a table that fills opens no more flows. */
static __always_inline bool client_is_crowding(const struct address *client, const struct settings *s, __u64 now)
{
	__u64 *until;

	if ((__s64)(s->crowded_until - now) <= 0)
		return false;
	until = bpf_map_lookup_elem(&crowded_clients, client);
	return until && (__s64)(*(volatile __u64 *)until - now) > 0;
}

/* May a flow of `key` be opened at all? Returns 0 or a verdict. Deadlines pass by themselves when nobody renews them. */
static __always_inline enum verdict flow_admit(const struct tuple *key, const struct settings *s)
{
	__u64 now = bpf_jiffies64();
	__u64 full = key->proto == IPPROTO_TCP ? s->tcp_full_until : s->udp_full_until;

	if ((__s64)(full - now) > 0)
		return DROP_TABLE_FULL;
	return client_is_crowding(&key->source, s, now) ? DROP_CLIENT_SHARE : 0;
}

/* Answers are looked for only where a backend was met: before anything can be found there. */
static __always_inline void backend_meet(const struct opening *opening, __u8 proto)
{
	const struct choice *choice = &opening->choice;
	struct met_backend *backend =
		near_backend(near_sum(&choice->address), choice->port, proto, path_hook(opening->path, 1));

	if (backend)
		RECORD(*(volatile __u64 *)&backend->met, bpf_jiffies64());
}

/* Opens a flow for the packet tuple `key`: fills `f` with its forward entry. Returns 0, or a verdict when no entry could be
 * made; then nothing was left behind. Source ports are probed in steps, both from a hash of the tuple: a flow that lost
 * its entries gets the same port again, and flows to one backend do not crowd.
 */
static __always_inline enum verdict flow_open(const struct tuple *key, const struct opening *opening, struct flow *f,
					      bool *created)
{
	const struct settings *s = settings_get();
	enum flow_table table = TABLE_OPENINGS;
	struct scratch *x = scratch_of(f);
	bool snat = address_is_set(&opening->source);
	int claim = CLAIM_TRY_NEXT; /* enum claim */
	__u32 hash, step, tries;
	enum verdict refused;
	int error;

	*created = false;
	if (!s || !s->snat_count)
		return DROP_NO_SOURCE_PORT;
	refused = flow_admit(key, s);
	if (refused)
		return refused;
	backend_meet(opening, key->proto);
	hash = tuple_hash(key);

	__builtin_memset(f, 0, sizeof(*f));
	f->write.source = snat ? opening->source : key->source;
	f->write.destination = opening->choice.address;
	f->write.destination_port = opening->choice.port;
	f->write.proto = key->proto;
	f->write.hook = path_hook(opening->path, 1);
	f->backend = opening->choice.backend;
	f->generation = opening->choice.generation;
	f->service = opening->choice.service;
	f->seen = jiffies_now();
	f->state = opening->midstream ? STATE_MIDSTREAM : 0;
	f->path = opening->path;
	f->policy = opening->policy;

	step = (hash >> 16) | 1;
	for (tries = 0; tries < SOURCE_PORT_TRIES && claim == CLAIM_TRY_NEXT; tries++) {
		if (!snat && tries == 0)
			f->write.source_port = key->source_port;
		else
			f->write.source_port = bpf_htons((__u16)(s->snat_first + (hash + tries * step) % s->snat_count));
		flow_partner(key, f, &x->partner_key, &x->partner);
		claim = flow_claim(opening->midstream, tries >= SOURCE_PORT_TRIES / 2);
	}
	if (claim == CLAIM_TRY_NEXT)
		return DROP_NO_SOURCE_PORT;
	if (claim == CLAIM_FAILED)
		return DROP_TABLE_FULL;
	if (claim == CLAIM_ADOPTED)
		table = TABLE_ESTABLISHED;
	f->check = flow_check(key, f);
	error = table_insert(table, key, f, BPF_NOEXIST);
	if (!error) {
		*created = true;
		return 0;
	}
	if (error == -EEXIST) { /* another CPU was first */
		struct flow *winner = table_lookup(table, key);

		if (winner) {
			x->copy = *winner;
			if (x->copy.check == flow_check(key, &x->copy)) {
				if (!tuple_equal(&x->copy.write, &f->write))
					table_delete(TABLE_OPENINGS, &x->partner_key);
				*f = x->copy;
				return 0;
			}
		}
	}
	if (table == TABLE_OPENINGS)
		table_delete(TABLE_OPENINGS, &x->partner_key);
	return DROP_TABLE_FULL;
}
