/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* sessionAffinity: ClientIP. A client's new connections to a Service port reach the backend of its last one, while that serves in the
 * window that the client uses, and for row.affinity seconds after the last. Reads and writes `affinity`, never packets.
 */
#pragma once
#include "record.h"
#include "select.h"

#define AFFINITY_EEXIST 17

static __always_inline void affinity_key(struct affinity_key *key, const struct address *client, __u32 service,
					 enum client_kind kind)
{
	key->client = *client;
	key->service = service;
	key->kind = (__u8)kind;
	__builtin_memset(key->pad, 0, sizeof(key->pad));
}

/* A client's hash: of nothing but the client, so that one whose entry was evicted is chosen the same; and of when the entry was used
 * last that counts no more, so that its time's end is a new choice. `last` is what affinity_find() left.
 */
static __always_inline __u32 affinity_hash(const struct affinity_key *key, const struct affinity *last)
{
	__u64 client = (key->client.half[0] ^ MIX2) * MIX1 + (key->client.half[1] ^ MIX3) * MIX2;

	return mix_final(client + last->used * MIX4);
}

static __always_inline __u32 affinity_check(const struct affinity_key *key, const struct affinity *a)
{
	const __u64 *k = (const __u64 *)key;
	__u64 h = (k[0] ^ MIX1) * MIX2 + (k[1] ^ MIX2) * MIX3 + (k[2] ^ MIX3) * MIX4;

	h += (((__u64)a->generation << 32 | a->backend) ^ MIX4) * MIX5;
	return (__u32)(h ^ (h >> 32));
}

/* The entry of `key`, copied to `a`, when it still counts: then `choice` is its backend, and its time begins anew. Else `a->used` is
 * when it was used last, 0 when there is none.
 */
static __always_inline bool affinity_find(const struct affinity_key *key, struct affinity *a, const struct row *row,
					  enum window window, struct choice *choice)
{
	const struct settings *s = settings_get();
	struct affinity *live = bpf_map_lookup_elem(&affinity, key);
	struct backend *backend;
	__u64 now, word;
	__u32 index, state;

	a->used = 0;
	if (!live || !s)
		return false;
	*a = *live;
	now = bpf_jiffies64();
	if (a->check != affinity_check(key, a) || now - a->used >= (__u64)row->affinity * s->hz)
		return false;
	index = a->backend;
	backend = bpf_map_lookup_elem(&backends, &index);
	if (!backend || backend->service != row->service)
		return false;
	word = *(volatile __u64 *)&backend->word;
	state = backend_state(word, a->generation);
	if (state == BACKEND_FREE || !((word >> (BACKEND_WINDOWS + window)) & 1))
		return false;
	choose(choice, backend, index, a->generation, state);
	if (live->check == a->check)
		RECORD(live->used, now);
	return true;
}

/* Writes the entry of `choice`, `how` as for a map. Returns 0 or a negative errno. */
static __always_inline int affinity_put(const struct affinity_key *key, struct affinity *a, const struct choice *choice, __u64 how)
{
	__builtin_memset(a, 0, sizeof(*a));
	a->backend = choice->backend;
	a->generation = choice->generation;
	a->used = bpf_jiffies64();
	a->check = affinity_check(key, a);
	return RECORD_UPDATE(&affinity, key, a, how);
}

/* Keeps `choice` for the client. Of two first connections at once the second takes the first one's; what counts no more gives way. */
static __always_inline void affinity_keep(const struct affinity_key *key, struct affinity *a, const struct row *row,
					  enum window window, struct choice *choice)
{
	if (affinity_put(key, a, choice, BPF_NOEXIST) == -AFFINITY_EEXIST && !affinity_find(key, a, row, window, choice))
		affinity_put(key, a, choice, BPF_ANY);
}
