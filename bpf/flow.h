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
#include "maps.h"
#include "parse.h"
#include "select.h"

enum flow_table {
	TABLE_ESTABLISHED,
	TABLE_OPENINGS,
};

#define SOURCE_PORT_TRIES 32

struct opening {
	struct choice choice;
	struct address source; /* SNAT source, all zero to keep the client's */
	__u8 path;      /* enum flow_path */
	__u8 midstream; /* the packet at hand is no SYN */
	__u8 pad[6];
};

/* What does not fit the stack. One per CPU and object: packet programs of one object do not interrupt each other (tc and XDP
 * run with softirqs off), and socket programs, which they do interrupt, have none.
 */
struct scratch {
	struct flow flow;
	struct pkt packet;
	struct flow partner;
	struct flow copy;
	struct tuple partner_key;
	struct tuple quoted;
	struct tuple original;
	struct tuple outer;
	struct opening opening;
	struct bpf_fib_lookup fib;
	__u32 words[32]; /* of a packet, to be summed */
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

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* Nobody gains by a collision, so words are only told apart: each times an odd number that fits an instruction. What pinned
 * maps hold was checked this way: another formula is another layout. bench/flow-cycles.ts reckons the same.
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

static __always_inline long table_insert(enum flow_table table, const struct tuple *key, const struct flow *f, __u64 how)
{
	if (table == TABLE_OPENINGS)
		return bpf_map_update_elem(&openings, key, f, how);
	if (key->proto == IPPROTO_TCP)
		return bpf_map_update_elem(&tcp_flows, key, f, how);
	return bpf_map_update_elem(&udp_flows, key, f, how);
}

static __always_inline void table_delete(enum flow_table table, const struct tuple *key)
{
	if (table == TABLE_OPENINGS)
		bpf_map_delete_elem(&openings, key);
	else if (key->proto == IPPROTO_TCP)
		bpf_map_delete_elem(&tcp_flows, key);
	else
		bpf_map_delete_elem(&udp_flows, key);
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

/* The hook under which `hook`'s flows stand in the tables. */
static __always_inline enum hook flow_hook(enum hook hook)
{
	return hook == HOOK_XDP ? HOOK_UPLINK_INGRESS : hook;
}

static __always_inline bool path_translates_source(__u8 path)
{
	return path == PATH_OUTSIDE_REMOTE || path == PATH_HAIRPIN;
}

static __always_inline void flow_forget_hop(struct flow *f)
{
	__builtin_memset(&f->hop, 0, sizeof(f->hop));
	f->hop_check = 0;
	f->pad2 = 0;
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

static __always_inline void hop_remember(struct flow *live, const struct flow *f, const struct bpf_fib_lookup *fib,
					 __u8 flags)
{
	struct next_hop hop = {};

	hop.ifindex = fib->ifindex;
	hop.asked = jiffies_now();
	__builtin_memcpy(hop.destination_mac, fib->dmac, 6);
	__builtin_memcpy(hop.source_mac, fib->smac, 6);
	hop.mtu = fib->mtu_result;
	hop.flags = flags;
	hop.valid = 1;
	live->hop = hop;
	live->hop_check = hop_check(f, &hop);
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
	__u32 hash, step, tries;
	bool placed = false;

	*created = false;
	if (!s || !s->snat_count)
		return DROP_NO_SOURCE_PORT;
	if ((__s64)((key->proto == IPPROTO_TCP ? s->tcp_full_until : s->udp_full_until) - bpf_jiffies64()) > 0)
		return DROP_TABLE_FULL;
	hash = tuple_hash(key);

	__builtin_memset(f, 0, sizeof(*f));
	f->write.source = snat ? opening->source : key->source;
	f->write.destination = opening->choice.address;
	f->write.destination_port = opening->choice.port;
	f->write.proto = key->proto;
	f->backend = opening->choice.backend;
	f->generation = opening->choice.generation;
	f->service = opening->choice.service;
	f->seen = jiffies_now();
	f->state = opening->midstream ? STATE_MIDSTREAM : 0;
	f->path = opening->path;

	step = (hash >> 16) | 1;
	for (tries = 0; tries < SOURCE_PORT_TRIES; tries++) {
		struct flow *there;
		long error;

		if (!snat && tries == 0)
			f->write.source_port = key->source_port;
		else
			f->write.source_port = bpf_htons((__u16)(s->snat_first + (hash + tries * step) % s->snat_count));
		flow_partner(key, f, &x->partner_key, &x->partner);
		there = table_lookup(TABLE_ESTABLISHED, &x->partner_key);
		if (there) {
			if (!reverse_is_ours(there, &x->partner.write)) {
				if (!reverse_is_over(there, s))
					continue;
				table_delete(TABLE_ESTABLISHED, &x->partner_key);
			} else if (opening->midstream) { /* the forward half was evicted: take the other half's word for it */
				table = TABLE_ESTABLISHED;
				f->state = there->state;
				f->backend = there->backend;
				f->generation = there->generation;
				f->service = there->service;
				placed = true;
				break;
			} else {
				table_delete(TABLE_ESTABLISHED, &x->partner_key);
			}
		}
		error = table_insert(TABLE_OPENINGS, &x->partner_key, &x->partner, BPF_NOEXIST);
		if (!error) {
			placed = true;
			break;
		}
		if (error != -17 /* EEXIST */)
			return DROP_TABLE_FULL;
		there = table_lookup(TABLE_OPENINGS, &x->partner_key);
		if (there && (reverse_is_ours(there, &x->partner.write) || reverse_is_over(there, s))) {
			/* It remembers an answer that the forward half at hand did not see: both begin anew. */
			if (table_insert(TABLE_OPENINGS, &x->partner_key, &x->partner, BPF_ANY))
				return DROP_TABLE_FULL;
			placed = true;
			break;
		}
	}
	if (!placed)
		return DROP_NO_SOURCE_PORT;
	f->check = flow_check(key, f);
	long error = table_insert(table, key, f, BPF_NOEXIST);

	if (!error) {
		*created = true;
		return 0;
	}
	if (error == -17 /* EEXIST: another CPU was first */) {
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

/* Takes both entries of a flow out, unless the answers were source translated: that pair of ports rests. */
static __always_inline void flow_forget(const struct tuple *key, struct flow *f, enum flow_table table)
{
	struct scratch *x = scratch_of(f);

	table_delete(table, key);
	if (path_translates_source(f->path))
		return;
	tuple_reverse(&f->write, &x->partner_key);
	table_delete(table, &x->partner_key);
}

static __always_inline void flow_mark_both(struct flow *live, struct flow *f, enum flow_table table, __u32 bits)
{
	struct scratch *x = scratch_of(f);
	struct flow *partner;

	live->state |= bits;
	tuple_reverse(&f->write, &x->partner_key);
	partner = table_lookup(table, &x->partner_key);
	if (partner)
		partner->state |= bits;
}

/* Moves both entries of an answered flow to its established table. A full table leaves them where they are. */
static __always_inline void flow_establish(const struct tuple *key, struct flow *f)
{
	struct scratch *x = scratch_of(f);

	f->state |= STATE_ESTABLISHED;
	f->seen = jiffies_now();
	flow_forget_hop(f);
	flow_partner(key, f, &x->partner_key, &x->partner);
	if (table_insert(TABLE_ESTABLISHED, &x->partner_key, &x->partner, BPF_ANY))
		return;
	if (table_insert(TABLE_ESTABLISHED, key, f, BPF_ANY))
		return;
	table_delete(TABLE_OPENINGS, key);
	table_delete(TABLE_OPENINGS, &x->partner_key);
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
	live->seen = now;
	tuple_reverse(&f->write, &x->partner_key);
	partner = table_lookup(table, &x->partner_key);
	if (partner) {
		partner->seen = now;
		return;
	}
	flow_partner(key, f, &x->partner_key, &x->partner);
	x->partner.seen = now;
	table_insert(table, &x->partner_key, &x->partner, BPF_NOEXIST);
}

/* Follows the conversation's state for one packet of a known flow. */
static __always_inline void flow_advance(const struct pkt *p, struct flow *live, struct flow *f, enum flow_table table)
{
	bool answer = f->answer;

	if (table == TABLE_OPENINGS) {
		if (answer) {
			if (!(f->state & STATE_ANSWERED)) {
				struct scratch *x = scratch_of(f);
				struct flow *partner;

				if (p->tuple.proto == IPPROTO_TCP && !(f->state & STATE_MIDSTREAM) &&
				    (p->tcp_flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK))
					goto ends;
				live->state |= STATE_ANSWERED;
				tuple_reverse(&f->write, &x->partner_key);
				partner = table_lookup(table, &x->partner_key);
				if (partner) {
					partner->number = p->sequence;
					partner->state |= STATE_ANSWERED;
				}
			}
		} else if (f->state & STATE_ANSWERED) {
			if (p->tuple.proto != IPPROTO_TCP || (f->state & STATE_MIDSTREAM) ||
			    ((p->tcp_flags & TCP_ACK) && !(p->tcp_flags & TCP_SYN) &&
			     p->acknowledgement == f->number + 1)) {
				flow_establish(&p->tuple, f);
				table = TABLE_ESTABLISHED;
				live = table_lookup(TABLE_ESTABLISHED, &p->tuple);
				if (!live)
					return;
			}
		}
	}
ends:
	if (p->tuple.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_FIN | TCP_RST))) {
		__u32 bits = p->tcp_flags & TCP_RST ? STATE_RESET : answer ? STATE_FIN_BACKEND : STATE_FIN_CLIENT;

		if ((f->state & bits) != bits)
			flow_mark_both(live, f, table, bits);
	}
	flow_refresh(&p->tuple, live, f, table);
}
