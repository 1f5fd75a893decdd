/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fragments (tc only). The first one carries the ports, and leaves them where the later ones find them; it has to come first.
 * They stand in a table of their own, which no packet but another first fragment can evict from.
 */
#pragma once
#include "flow.h"

/* A reassembly is given up after so long (RFC 791 and RFC 8200 allow 60 s; Linux takes 30), and numbers come round. */
#define FRAGMENT_SECONDS 30

/* The key of a piece of `id` between these ends, by the hook that sees them. */
static __always_inline void fragment_key_between(const struct tuple *ends, __u32 id, __u8 hook, struct fragment_key *key)
{
	key->source = ends->source;
	key->destination = ends->destination;
	key->id = id;
	key->proto = ends->proto;
	key->hook = hook;
	key->pad = 0;
}

static __always_inline void fragment_key_of(const struct pkt *p, struct fragment_key *key)
{
	fragment_key_between(&p->tuple, p->id, p->tuple.hook, key);
}

/* Of a first fragment that is translated, to `to`: each one anew, as numbers are used again. Where errors about its pieces come, they
 * quote what they were translated to.
 */
static __always_inline void fragment_remember(struct pkt *p, const struct tuple *to)
{
	struct scratch *x = scratch_of_packet(p);
	struct fragment value = {
		.source_port = p->tuple.source_port,
		.destination_port = p->tuple.destination_port,
		.seen = jiffies_now(),
	};

	fragment_key_of(p, &x->piece);
	RECORD_UPDATE(&fragments, &x->piece, &value, BPF_ANY);
	value.source_port = to->source_port;
	value.destination_port = to->destination_port;
	fragment_key_between(to, p->id, to->hook, &x->piece);
	RECORD_UPDATE(&fragments, &x->piece, &value, BPF_ANY);
}

/* Of a first fragment that is none of ours: an older datagram of the same number may have been. */
static __always_inline void fragment_forget(struct pkt *p)
{
	struct scratch *x = scratch_of_packet(p);

	fragment_key_of(p, &x->piece);
	RECORD_DELETE(&fragments, &x->piece);
}

/* Gives the piece of `id` between these ends the ports of its first one; false when that was not seen, or was none of ours. */
static __always_inline bool fragment_ports(struct scratch *x, struct tuple *ends, __u32 id, __u8 hook)
{
	const struct settings *s = settings_get();
	struct fragment *found;
	__u64 word;

	fragment_key_between(ends, id, hook, &x->piece);
	found = bpf_map_lookup_elem(&fragments, &x->piece);
	if (!found || !s)
		return false;
	word = *(volatile __u64 *)found;
	if (jiffies_now() - (__u32)(word >> 32) > FRAGMENT_SECONDS * s->hz)
		return false;
	ends->source_port = (__be16)word;
	ends->destination_port = (__be16)(word >> 16);
	return true;
}

static __always_inline bool fragment_recall(struct pkt *p)
{
	return fragment_ports(scratch_of_packet(p), &p->tuple, p->id, p->tuple.hook);
}
