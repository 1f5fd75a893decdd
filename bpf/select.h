/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a window to a live backend. Packets choose by a hash of their tuple, so that a lost flow is chosen again the same
 * way; sockets bring a number of their own. Reads maps, never packets.
 */
#pragma once
#include "maps.h"
#include "address.h"

struct choice {
	struct address address;
	__be16 port;
	__u16 pad;
	__u32 backend;
	__u32 generation;
	__u32 service;
	__u8 local; /* it is on this node */
	__u8 pad2[7];
};

#define MIX1 0x9e3779b97f4a7c15ULL
#define MIX2 0xc2b2ae3d27d4eb4fULL
#define MIX3 0x165667b19e3779f9ULL
#define MIX4 0xd6e8feb86659fd93ULL
#define MIX5 0xff51afd7ed558ccdULL

static __always_inline __u32 mix_final(__u64 h)
{
	h ^= h >> 32;
	h *= MIX4;
	return (__u32)(h >> 32);
}

/* Independent multiplications, so that they run side by side. */
static __always_inline __u64 tuple_sum(const struct tuple *t)
{
	__u64 ports = (__u64)t->source_port | ((__u64)t->destination_port << 16) | ((__u64)t->proto << 32);

	return (t->source.half[0] ^ MIX2) * MIX1 + (t->source.half[1] ^ MIX3) * MIX2 + (t->destination.half[0] ^ MIX4) * MIX3 +
	       (t->destination.half[1] ^ MIX1) * MIX4 + (ports ^ MIX5) * MIX5;
}

static __always_inline __u32 tuple_hash(const struct tuple *t)
{
	__u64 h = tuple_sum(t);

	return mix_final(h ^ (h >> 29));
}

/* State of the backend in `word` when its generation is `generation`, else BACKEND_FREE. */
static __always_inline __u32 backend_state(__u64 word, __u32 generation)
{
	__u32 state = (__u8)(word >> BACKEND_STATE);

	return (__u32)word == generation && state != BACKEND_RETIRED ? state : BACKEND_FREE;
}

/* Is the backend that a flow chose still alive? */
static __always_inline bool backend_alive(__u32 index, __u32 generation)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &index);

	return backend && backend_state(*(volatile __u64 *)&backend->word, generation) != BACKEND_FREE;
}

static __always_inline void choose(struct choice *choice, const struct backend *backend, __u32 index, __u32 generation,
				   __u32 state)
{
	choice->address = backend->address;
	choice->port = backend->port;
	choice->pad = 0;
	choice->backend = index;
	choice->generation = generation;
	choice->service = backend->service;
	choice->local = state == BACKEND_LOCAL;
}

/* Takes the backend of slot `index` when it lives. */
static __always_inline bool choose_slot(const struct row *row, __u32 index, struct choice *choice)
{
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	struct backend *backend;
	__u32 state, generation;
	__u64 word;

	if (!slot)
		return false;
	word = *(volatile __u64 *)slot;
	index = (__u32)word;
	generation = (__u32)(word >> 32);
	backend = bpf_map_lookup_elem(&backends, &index);
	if (!backend || backend->service != row->service)
		return false;
	state = backend_state(*(volatile __u64 *)&backend->word, generation);
	if (state == BACKEND_FREE)
		return false;
	choose(choice, backend, index, generation, state);
	return true;
}

/* Takes the slot that `hash` points to, or one of the next when a backend is being retired. Returns 0 when chosen, else a
 * verdict. The window must not be empty.
 */
static __always_inline enum verdict select_backend(const struct row *row, __u64 window, __u32 hash, struct choice *choice)
{
	__u32 first = (__u32)window, count = (__u32)(window >> 32);
	__u32 offset = (__u32)(((__u64)hash * count) >> 32);

	for (int i = 0; i < 4; i++) {
		if (choose_slot(row, first + offset, choice))
			return 0;
		if (++offset >= count)
			offset = 0;
	}
	return DROP_STALE_BACKEND;
}
