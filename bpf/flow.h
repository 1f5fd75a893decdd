/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow tables: finding, opening, advancing and rebuilding the two entries of a flow. Never touches packets.
 *
 *   openings   everything not yet answered; a flood evicts only here
 *   tcp_flows  from SYN-ACK and the ACK that acknowledges it (RFC 9293)
 *   udp_flows  from an answer and another request
 *
 * Reverse entries are inserted first and with BPF_NOEXIST, so that a reverse tuple belongs to one flow.
 */
#pragma once
#include "near.h"
#include "parse.h"
#include "record.h"
#include "select.h"

enum flow_table {
	TABLE_ESTABLISHED,
	TABLE_OPENINGS,
};

#define SOURCE_PORT_TRIES 32
#define EEXIST 17

/* How far a number may be off what is expected: a segment behind, and what may be in flight ahead of the last acknowledgement. */
#define WINDOW_BEHIND 65536
#define WINDOW_AHEAD (16 << 20)

struct opening {
	struct choice choice;
	struct address source; /* SNAT source, all zero to keep the client's */
	__u8 path;	/* enum flow_path */
	__u8 midstream; /* the packet at hand is no SYN */
	__u8 pad[6];
};

/* What does not fit the stack. One per CPU and object: packet programs of one object do not interrupt each other (tc and XDP
 * run with softirqs off), and socket programs, which they do interrupt, have none.
 */
struct scratch {
	struct flow flow; /* the flow at hand: first, see scratch_of() */
	struct pkt packet;
	struct flow partner;
	struct flow copy; /* of an entry that another CPU made first */
	struct tuple partner_key;
	/* A packet is one of these at most. */
	union {
		struct tuple reply;   /* what we answer with: its ends */
		struct tuple route;   /* what a route is asked for */
		struct tuple inverse; /* the answers to a packet that is no frontend's */
		struct {
			struct tuple quoted;   /* what an ICMP error quotes */
			struct tuple original; /* what that was before it was translated */
			struct tuple ends;     /* of the error itself */
		} icmp;
	};
	struct opening opening;
	struct bpf_fib_lookup fib;
	struct bpf_redir_neigh neighbour;
	__u32 pad;
	struct next_hop hop;
	struct fragment_key piece;
	__u32 words[32]; /* of a packet, to be summed or looked through */
	__u32 replies_since; /* jiffies: the second that `replies` were made in */
	__u32 replies;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* The scratch whose flow `f` is: `f` is always that one, and asking the map again for each step costs 3 ns. */
static __always_inline struct scratch *scratch_of(struct flow *f)
{
	return (struct scratch *)f; /* the first member */
}

/* The same by the packet at hand, which is the scratch's too. */
static __always_inline struct scratch *scratch_of_packet(struct pkt *p)
{
	return (struct scratch *)((void *)p - __builtin_offsetof(struct scratch, packet));
}

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* Nobody gains by a collision, so words are only told apart: each times an odd number that fits an instruction. What pinned
 * maps hold was checked this way: another formula is another layout. src/datapath/flow-check.ts reckons the same.
 */
static __always_inline __u32 flow_check(const struct tuple *key, const struct flow *f)
{
	const __u64 *k = (const __u64 *)key, *w = (const __u64 *)&f->write;
	__u64 backend = (__u64)f->generation << 32 | f->backend, kind = (__u32)f->path << 8 | f->answer;
	__u64 h = k[0] * 0x1e3779b1 + k[1] * 0x42b2ae3d + k[2] * 0x165667b1 + k[3] * 0x56e8feb9 + k[4] * 0x7f51afd7;

	h += w[0] * 0x27d4eb2f + w[1] * 0x61c88647 + w[2] * 0x2545f491 + w[3] * 0x5bd1e995 + w[4] * 0x4f1bbcdd;
	h += backend * 0x3c6ef373 + (__u64)f->service * 0x7feb352d + kind * 0x046ca68b;
	return (__u32)(h ^ (h >> 32));
}

static __always_inline __u32 jiffies_now(void)
{
	return (__u32)bpf_jiffies64();
}

/* The compiler makes one call of two to different maps, and then the kernel cannot put the lookup in place of the call, which
 * takes 10 ns less: unlike statements behind them keep the calls apart.
 */
#define KEEP_CALL(found, map) asm volatile("%0 = %0 # " map : "+r"(found))

static __always_inline struct flow *established_lookup(const struct tuple *key, __u8 proto)
{
	struct flow *found;

	if (proto == IPPROTO_TCP) {
		found = bpf_map_lookup_elem(&tcp_flows, key);
		KEEP_CALL(found, "tcp_flows");
	} else {
		found = bpf_map_lookup_elem(&udp_flows, key);
		KEEP_CALL(found, "udp_flows");
	}
	return found;
}

static __always_inline struct flow *table_lookup(enum flow_table table, const struct tuple *key)
{
	struct flow *found;

	if (table == TABLE_ESTABLISHED)
		return established_lookup(key, key->proto);
	found = bpf_map_lookup_elem(&openings, key);
	KEEP_CALL(found, "openings");
	return found;
}

/* Returns 0 or a negative errno. */
static __always_inline int table_insert(enum flow_table table, const struct tuple *key, const struct flow *f, __u64 how)
{
	if (table == TABLE_OPENINGS)
		return RECORD_UPDATE(&openings, key, f, how);
	if (key->proto == IPPROTO_TCP)
		return RECORD_UPDATE(&tcp_flows, key, f, how);
	return RECORD_UPDATE(&udp_flows, key, f, how);
}

static __always_inline void table_delete(enum flow_table table, const struct tuple *key)
{
	if (table == TABLE_OPENINGS)
		RECORD_DELETE(&openings, key);
	else if (key->proto == IPPROTO_TCP)
		RECORD_DELETE(&tcp_flows, key);
	else
		RECORD_DELETE(&udp_flows, key);
}

/* Finds the entry of `key` and copies it; returns the live entry, for its changing words, or NULL. A copy whose check word
 * does not fit was reused while it was read and counts as missing. `stranger`: the established tables were asked before.
 */
static __always_inline struct flow *flow_find(const struct tuple *key, struct flow *copy, enum flow_table *table,
					      bool stranger)
{
	struct flow *live = stranger ? NULL : table_lookup(TABLE_ESTABLISHED, key);

	*table = TABLE_ESTABLISHED;
	if (!live) {
		*table = TABLE_OPENINGS;
		live = table_lookup(TABLE_OPENINGS, key);
		if (!live)
			return NULL;
	}
	/* The next hop is read when it is needed. */
	__builtin_memcpy(copy, live, __builtin_offsetof(struct flow, hop));
	return copy->check == flow_check(key, copy) ? live : NULL;
}

static __always_inline bool flow_ended(__u32 state)
{
	const __u32 both = STATE_FIN_CLIENT | STATE_FIN_BACKEND;

	return (state & STATE_RESET) || (state & both) == both;
}

/* At which hook a direction of a path is translated. XDP stands in for uplink ingress. */
static __always_inline enum hook path_hook(__u8 path, __u8 answer)
{
	switch (path) {
	case PATH_OUTSIDE_LOCAL:
		return answer ? HOOK_UPLINK_EGRESS : HOOK_UPLINK_INGRESS;
	case PATH_OUTSIDE_REMOTE:
		return HOOK_UPLINK_INGRESS;
	case PATH_POD:
		return answer ? HOOK_POD_EGRESS : HOOK_POD_INGRESS;
	case PATH_HAIRPIN:
		return HOOK_POD_INGRESS;
	case PATH_HOST_REMOTE:
	case PATH_PORT_CHANGE:
		return answer ? HOOK_UPLINK_INGRESS : HOOK_UPLINK_EGRESS;
	case PATH_HOST_LOCAL:
		return answer ? HOOK_POD_INGRESS : HOOK_UPLINK_EGRESS;
	}
	return HOOK_NONE;
}

/* The hook that sees the answers to what comes by `hook`, when its source is kept. */
static __always_inline enum hook answer_hook(enum hook hook)
{
	switch (hook) {
	case HOOK_UPLINK_INGRESS:
		return HOOK_UPLINK_EGRESS;
	case HOOK_POD_INGRESS:
		return HOOK_POD_EGRESS;
	default:
		return HOOK_UPLINK_INGRESS;
	}
}

/* The hook under which `hook`'s flows stand in the tables. */
static __always_inline enum hook flow_hook(enum hook hook)
{
	return hook == HOOK_XDP ? HOOK_UPLINK_INGRESS : hook;
}

/* Has the client another address in the backend's eyes? `f` is the entry of `key`. */
static __always_inline bool flow_translates_source(const struct tuple *key, const struct flow *f)
{
	return f->answer ? !address_equal(&key->destination, &f->write.destination) :
			   !address_equal(&key->source, &f->write.source);
}

static __always_inline void flow_forget_hop(struct flow *f)
{
	__builtin_memset(&f->hop, 0, sizeof(f->hop));
	f->hop_check = 0;
	f->pad2 = 0;
}

static __always_inline void flow_copy_hop(struct flow *f, const struct flow *from)
{
	f->hop = from->hop;
	f->hop_check = from->hop_check;
}

static __always_inline __u32 hop_check(const struct flow *f, const struct next_hop *hop)
{
	const __u64 *words = (const __u64 *)hop;
	__u64 h = words[0] * 0x1e3779b1 + words[1] * 0x42b2ae3d + words[2] * 0x165667b1 + f->check;

	return (__u32)(h ^ (h >> 32));
}

/* The next hop that was found for this direction less than a second ago, copied to `hop`. */
static __always_inline bool hop_known(const struct flow *live, const struct flow *f, struct next_hop *hop, __u32 now,
				      __u32 hz)
{
	const __u64 *from = (const __u64 *)&live->hop;
	__u64 *to = (__u64 *)hop;

	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	return hop->valid && now - hop->asked < hz && live->hop_check == hop_check(f, hop);
}

/* Keeps what the scratch's lookup found. */
static __always_inline void hop_remember(struct flow *live, struct flow *f, __u8 flags)
{
	struct scratch *x = scratch_of(f);
	const struct bpf_fib_lookup *fib = &x->fib;
	struct next_hop *hop = &x->hop;

	hop->ifindex = fib->ifindex;
	hop->asked = jiffies_now();
	__builtin_memcpy(hop->destination_mac, fib->dmac, 6);
	__builtin_memcpy(hop->source_mac, fib->smac, 6);
	hop->mtu = fib->mtu_result;
	hop->flags = flags;
	hop->valid = 1;
	RECORD(live->hop, *hop);
	RECORD(live->hop_check, hop_check(f, hop));
}

/* Is it still the entry that `f` was copied from? An element can go to another key while we hold it. */
static __always_inline bool flow_is_still(const struct flow *live, const struct flow *f)
{
	return live->check == f->check;
}

/* The entry in which the other direction of the flow `f` of `key` stands; NULL when the table lost it, or gave the tuple to
 * another flow. Leaves its key in the scratch.
 */
static __always_inline struct flow *flow_partner_find(const struct tuple *key, struct flow *f, enum flow_table table)
{
	struct scratch *x = scratch_of(f);
	struct flow *partner;

	tuple_reverse(&f->write, &x->partner_key);
	partner = table_lookup(table, &x->partner_key);
	return partner && tuple_opposes(&partner->write, key) && partner->answer != f->answer ? partner : NULL;
}

/* The partner's entry, made from this one. */
static __always_inline void flow_partner(const struct tuple *key, const struct flow *f, struct tuple *partner_key,
					 struct flow *partner)
{
	__builtin_memcpy(partner, f, __builtin_offsetof(struct flow, hop));
	flow_forget_hop(partner);
	tuple_reverse(&f->write, partner_key);
	tuple_reverse(key, &partner->write);
	partner->answer = !f->answer;
	partner->check = flow_check(partner_key, partner);
}

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

/* Makes the tuple of the answers, in the scratch, that of this flow. */
static __always_inline enum claim flow_claim(struct flow *f, bool midstream, const struct settings *s)
{
	struct scratch *x = scratch_of(f);
	struct flow *there = table_lookup(TABLE_ESTABLISHED, &x->partner_key);
	int error;

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
	if (!there || (!reverse_is_ours(there, &x->partner.write) && !reverse_is_over(there, s)))
		return CLAIM_TRY_NEXT;
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
	enum claim claim = CLAIM_TRY_NEXT;
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

	step = (hash >> 16) | 1;
	for (tries = 0; tries < SOURCE_PORT_TRIES && claim == CLAIM_TRY_NEXT; tries++) {
		if (!snat && tries == 0)
			f->write.source_port = key->source_port;
		else
			f->write.source_port = bpf_htons((__u16)(s->snat_first + (hash + tries * step) % s->snat_count));
		flow_partner(key, f, &x->partner_key, &x->partner);
		claim = flow_claim(f, opening->midstream, s);
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

/* Takes the entry of a request out, so that it can be chosen anew. The answers' goes too, unless something may still need it: a
 * pair of ports that was source translated rests, and answers of UDP may be under way.
 */
static __always_inline void flow_forget(const struct tuple *key, struct flow *f, enum flow_table table)
{
	struct scratch *x = scratch_of(f);

	table_delete(table, key);
	if (key->proto == IPPROTO_UDP || flow_translates_source(key, f))
		return;
	if (flow_partner_find(key, f, table))
		table_delete(table, &x->partner_key);
}

static __always_inline void flow_mark_both(const struct tuple *key, struct flow *live, struct flow *f, enum flow_table table,
					   __u32 set, __u32 clear)
{
	struct flow *partner = flow_partner_find(key, f, table);

	if (flow_is_still(live, f))
		RECORD(live->state, (live->state & ~clear) | set);
	if (partner)
		RECORD(partner->state, (partner->state & ~clear) | set);
}

/* Moves both entries of an answered flow to its established table, with what they know of the way. A full table leaves them
 * where they are.
 */
static __always_inline void flow_establish(const struct pkt *p, const struct flow *live, struct flow *f)
{
	const struct tuple *key = &p->tuple;
	struct scratch *x = scratch_of(f);
	struct flow *old = flow_partner_find(key, f, TABLE_OPENINGS);

	f->state |= STATE_ESTABLISHED;
	f->seen = jiffies_now();
	flow_partner(key, f, &x->partner_key, &x->partner);
	if (old)
		flow_copy_hop(&x->partner, old);
	flow_copy_hop(f, live);
	f->pad2 = 0;
	f->number = p->acknowledgement;
	x->partner.number = p->sequence;
	if (table_insert(TABLE_ESTABLISHED, &x->partner_key, &x->partner, BPF_ANY))
		return;
	if (table_insert(TABLE_ESTABLISHED, key, f, BPF_ANY))
		return;
	table_delete(TABLE_OPENINGS, key);
	table_delete(TABLE_OPENINGS, &x->partner_key);
}

/* What ended is not kept alive, and no half of it rebuilt: its tuple may be another connection's by now. */
static __always_inline bool flow_is_over(const struct tuple *key, const struct flow *f)
{
	if (key->proto == IPPROTO_TCP)
		return flow_ended(f->state);
	return f->path != PATH_PORT_CHANGE && !backend_alive(f->backend, f->generation);
}

/* Once a second at most: refreshes both entries, and rebuilds the partner when the table lost it. */
static __always_inline void flow_refresh(const struct tuple *key, struct flow *live, struct flow *f,
					 enum flow_table table)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_of(f);
	__u32 now = jiffies_now();
	struct flow *partner;

	if (!s || now - f->seen < s->hz)
		return;
	if (flow_is_still(live, f))
		RECORD(live->seen, now);
	partner = flow_partner_find(key, f, table);
	if (partner) {
		RECORD(partner->seen, now);
		return;
	}
	if (flow_is_over(key, f))
		return;
	flow_partner(key, f, &x->partner_key, &x->partner);
	x->partner.seen = now;
	table_insert(table, &x->partner_key, &x->partner, BPF_NOEXIST);
}

/* Is `number` a sequence number that a packet may have, when `expected` was acknowledged last? */
static __always_inline bool number_fits(__u32 number, __u32 expected)
{
	return number - expected + WINDOW_BEHIND <= WINDOW_BEHIND + WINDOW_AHEAD;
}

/* FIN and RST of an established connection count when their number fits what the other side acknowledged last (RFC 5961). */
static __always_inline bool ending_counts(const struct pkt *p, struct flow *f, enum flow_table table)
{
	struct flow *partner;

	if (table != TABLE_ESTABLISHED || f->path == PATH_PORT_CHANGE)
		return true;
	partner = flow_partner_find(&p->tuple, f, table);
	return !partner || !partner->number || number_fits(p->sequence, partner->number);
}

/* An answer to an opening. Of several SYN-ACKs the newest counts: another one may have another number. */
static __always_inline void flow_answered(const struct pkt *p, struct flow *live, struct flow *f)
{
	struct flow *partner;

	if (p->tuple.proto == IPPROTO_TCP && !(f->state & STATE_MIDSTREAM)) {
		if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK))
			return;
	} else if (f->state & STATE_ANSWERED) {
		return;
	}
	if (flow_is_still(live, f))
		RECORD(live->state, live->state | STATE_ANSWERED);
	partner = flow_partner_find(&p->tuple, f, TABLE_OPENINGS);
	if (partner) {
		RECORD(partner->number, p->sequence);
		RECORD(partner->state, partner->state | STATE_ANSWERED);
	}
}

/* Does this packet of the client complete the opening? A first acknowledgement may be of data too (RFC 7413). */
static __always_inline bool opening_completes(const struct pkt *p, const struct flow *f)
{
	if (!(f->state & STATE_ANSWERED))
		return false;
	if (p->tuple.proto != IPPROTO_TCP || (f->state & STATE_MIDSTREAM))
		return true;
	return (p->tcp_flags & TCP_ACK) && !(p->tcp_flags & TCP_SYN) && p->acknowledgement - f->number - 1 < WINDOW_BEHIND;
}

/* A reset that was none: both sides go on after it. */
static __always_inline void flow_went_on(const struct pkt *p, struct flow *live, struct flow *f, enum flow_table table)
{
	const __u32 both = STATE_CLIENT_WENT_ON | STATE_BACKEND_WENT_ON;
	__u32 bit = f->answer ? STATE_BACKEND_WENT_ON : STATE_CLIENT_WENT_ON;

	if (((f->state | bit) & both) == both)
		flow_mark_both(&p->tuple, live, f, table, 0, both | STATE_RESET);
	else if (!(f->state & bit))
		flow_mark_both(&p->tuple, live, f, table, bit, 0);
}

/* Follows the conversation's state for one packet of a known flow. */
static __always_inline void flow_advance(const struct pkt *p, struct flow *live, struct flow *f, enum flow_table table)
{
	bool answer = f->answer;

	if (table == TABLE_OPENINGS) {
		if (answer) {
			flow_answered(p, live, f);
		} else if (opening_completes(p, f)) {
			flow_establish(p, live, f);
			table = TABLE_ESTABLISHED;
			live = table_lookup(TABLE_ESTABLISHED, &p->tuple);
			if (!live)
				return;
		}
	}
	if (p->tuple.proto == IPPROTO_TCP) {
		if (p->tcp_flags & (TCP_FIN | TCP_RST)) {
			__u32 bits = p->tcp_flags & TCP_RST ? STATE_RESET : answer ? STATE_FIN_BACKEND : STATE_FIN_CLIENT;

			if ((f->state & bits) != bits && ending_counts(p, f, table))
				flow_mark_both(&p->tuple, live, f, table, bits, STATE_CLIENT_WENT_ON | STATE_BACKEND_WENT_ON);
		} else if (f->state & STATE_RESET) {
			flow_went_on(p, live, f, table);
		}
		/* A SYN keeps nothing alive: its sender knows no connection. */
		if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			return;
		if (table == TABLE_ESTABLISHED && (p->tcp_flags & TCP_ACK) && !(p->tcp_flags & TCP_RST) && flow_is_still(live, f))
			RECORD(live->number, p->acknowledgement);
	}
	flow_refresh(&p->tuple, live, f, table);
}
