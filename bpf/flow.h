/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow tables: finding an entry, the partner of it, and its next hop. flow_open.h makes flows, flow_life.h follows them. Never
 * touches packets.
 *
 *   openings   everything not yet answered; a flood evicts only here
 *   tcp_flows  from SYN-ACK and the ACK that acknowledges it (RFC 9293)
 *   udp_flows  from an answer and another request
 *
 * Reverse entries are inserted first and with BPF_NOEXIST, so that a reverse tuple belongs to one flow.
 */
#pragma once
#include "near.h"
#include "record.h"
#include "scratch.h"
#include "source_range.h"

enum flow_table {
	TABLE_ESTABLISHED,
	TABLE_OPENINGS,
};

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
	f->policy = 0;
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

/* Did the Service's source ranges change since the client of this request was let in? */
static __always_inline bool flow_policy_changed(const struct flow *live, const struct flow *f)
{
	return !f->answer && f->path != PATH_PORT_CHANGE && live->policy != policy_count(f->service);
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
