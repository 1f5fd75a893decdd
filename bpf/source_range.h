/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* loadBalancerSourceRanges: who may ask a frontend. Reads maps, never packets. */
#pragma once
#include "maps.h"
#include "address.h"

/* Is the client in one of the Service's ranges? `key` is room for the lookup. */
static __always_inline bool source_in_ranges(__u32 service, const struct address *client, struct source_range_key *key)
{
	__u32 *found;

	key->prefixlen = 8 * (sizeof(key->service) + sizeof(key->address));
	key->service = service;
	key->address = *client;
	found = bpf_map_lookup_elem(&source_ranges, key);
	return found && *(volatile __u32 *)found == service;
}

/* What a flow of the Service that is let in now has to bear as its `policy`: read it before the ranges. */
static __always_inline __u32 policy_count(__u32 service)
{
	struct service_policy *policy = bpf_map_lookup_elem(&service_policies, &service);

	return policy ? (__u32) * (volatile __u64 *)&policy->count : 0;
}
