/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a packet leaves behind in maps: every such write of the packet programs goes through here, and config_records switches all
 * of them off for an object that only asks what would become of a packet.
 */
#pragma once
#include "config.h"
#include "maps.h"

/* Stores through a pointer into a map's value. */
#define RECORD(place, value)                   \
	do {                                   \
		if (config_records)            \
			(place) = (value);     \
	} while (0)

/* Returns 0 or a negative errno. An int: before Linux 6.4 the call is inlined and the upper half of what it returns is 0, not the
 * sign's.
 */
#define RECORD_UPDATE(map, key, value, how) (config_records ? (int)bpf_map_update_elem(map, key, value, how) : 0)

#define RECORD_DELETE(map, key)                       \
	do {                                          \
		if (config_records)                   \
			bpf_map_delete_elem(map, key); \
	} while (0)

static __always_inline void count_verdict(enum hook hook, enum verdict verdict)
{
	__u32 index = (__u32)hook * VERDICT_MAX + (__u32)verdict;
	__u64 *count = bpf_map_lookup_elem(&verdicts, &index);

	if (count)
		RECORD(*count, *count + 1);
}

static __always_inline void count_service(__u32 service, __u32 bytes, bool opened)
{
	struct service_counters *counters = bpf_map_lookup_elem(&service_stats, &service);

	if (!counters || !config_records)
		return;
	counters->packets++;
	counters->bytes += bytes;
	if (opened)
		counters->connections++;
}

/* `key` names a Service: 0 is none. Atomic, as a packet program may interrupt a socket program in between. */
static __always_inline void count_refusal(const struct refusal_key *key)
{
	__u64 first = 1, *count;

	if (!key->service || !config_records)
		return;
	count = bpf_map_lookup_elem(&service_refusals, key);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&service_refusals, key, &first, BPF_ANY);
}
