/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A flow's life, packet by packet: answered, established, refreshed, ended. Never touches packets. */
#pragma once
#include "flow.h"

/* How far a number may be off what is expected: a segment behind, and what may be in flight ahead of the last acknowledgement. */
#define WINDOW_BEHIND 65536
#define WINDOW_AHEAD (16 << 20)

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
	f->policy = live->policy;
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
	if (key->proto != IPPROTO_UDP)
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
	x->partner.number = 0; /* this direction's says nothing of the other */
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

/* An answer to an opening. Of several SYN-ACKs, or INIT ACKs, the newest counts: another one may have another number. */
static __always_inline void flow_answered(const struct pkt *p, struct flow *live, struct flow *f)
{
	struct flow *partner;

	if (p->tuple.proto != IPPROTO_UDP && !(f->state & STATE_MIDSTREAM)) {
		if (!answers_handshake(p))
			return;
	} else if (f->state & STATE_ANSWERED) {
		return;
	}
	if (flow_is_still(live, f))
		RECORD(live->state, live->state | STATE_ANSWERED);
	partner = flow_partner_find(&p->tuple, f, TABLE_OPENINGS);
	if (partner) {
		RECORD(partner->number, p->tuple.proto == IPPROTO_SCTP ? p->acknowledgement : p->sequence);
		RECORD(partner->state, partner->state | STATE_ANSWERED);
	}
}

/* Does this packet of the client complete the opening? A first acknowledgement may be of data too (RFC 7413); of SCTP it bears the tag
 * that the INIT ACK asked for (RFC 9260 section 8.5).
 */
static __always_inline bool opening_completes(const struct pkt *p, const struct flow *f)
{
	if (!(f->state & STATE_ANSWERED))
		return false;
	if (p->tuple.proto == IPPROTO_UDP || (f->state & STATE_MIDSTREAM))
		return true;
	if (p->tuple.proto == IPPROTO_SCTP)
		return p->sequence == f->number;
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
		/* A SYN keeps nothing alive, and neither does the answer to one, which comes by itself again and again. */
		if (p->tcp_flags & TCP_SYN)
			return;
		if (table == TABLE_ESTABLISHED && (p->tcp_flags & TCP_ACK) && !(p->tcp_flags & TCP_RST) && flow_is_still(live, f))
			RECORD(live->number, p->acknowledgement);
	}
	if (p->tuple.proto == IPPROTO_SCTP && (opens_handshake(p) || answers_handshake(p)))
		return;
	flow_refresh(&p->tuple, live, f, table);
}
