/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a destination to the row of the frontend that answers there. Reads maps, never packets. */
#pragma once
#include "maps.h"
#include "address.h"

enum frontend_result {
	FRONTEND_NONE = 0, /* not an address of ours, or a port of the node that is nobody's */
	FRONTEND_FOUND,
	FRONTEND_UNDEFINED, /* an address of ours where nobody defined this port */
	FRONTEND_FREE_ADDRESS, /* in a Service CIDR, given to nobody */
	FRONTEND_STALE,
};

/* The row of `key`, checked to be its row still; `miss` tells a missing key from a row that changed hands. */
static __always_inline struct row *frontend_row(const struct frontend_key *key, bool *miss)
{
	for (int i = 0; i < 2; i++) {
		struct frontend *frontend = bpf_map_lookup_elem(&frontends, key);
		struct row *row;
		__u64 word;
		__u32 index;

		if (!frontend) {
			*miss = true;
			return NULL;
		}
		word = *(volatile __u64 *)frontend;
		index = (__u32)word;
		row = bpf_map_lookup_elem(&rows, &index);
		if (row && row->generation == (__u32)(word >> 32) && row->key.port == key->port &&
		    row->key.proto == key->proto && address_equal(&row->key.address, &key->address))
			return row;
	}
	*miss = false;
	return NULL;
}

static __always_inline __u32 address_roles(const struct address *address)
{
	__u32 *roles = bpf_map_lookup_elem(&addresses, address);

	return roles ? *roles : 0;
}

static __always_inline bool address_in_service_range(const struct address *address)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SERVICE_RANGES; i++) {
		__u32 index = i;
		struct service_range *range = bpf_map_lookup_elem(&service_ranges, &index);

		if (!range || range->kind == RANGE_END)
			return false;
		if (((address->half[0] ^ range->address.half[0]) & range->mask.half[0]) == 0 &&
		    ((address->half[1] ^ range->address.half[1]) & range->mask.half[1]) == 0)
			return range->kind == RANGE_SERVICES;
	}
	return false;
}

/* The unspecified address of the family of `address`, under which ports of every node address stand. */
static __always_inline void address_any(const struct address *address, struct address *any)
{
	bool v4 = address_is_v4(address);

	any->half[0] = 0;
	any->half[1] = v4 ? 0xffff0000ULL : 0;
}

/* What loopback addresses are to a socket of the host. */
static __always_inline __u32 loopback_roles(void)
{
	const struct settings *s = settings_get();

	return ADDRESS_NODE | (s && (s->flags & SETTING_LOOPBACK_WITHOUT_NODE_PORTS) ? ADDRESS_WITHOUT_NODE_PORTS : 0);
}

/* Looks up who answers at `address`, `port`, `proto`. `loopback_is_node`: the caller is a socket of the host's own network
 * namespace, for which loopback addresses are node addresses.
 */
static __always_inline enum frontend_result frontend_find(const struct address *address, __be16 port, __u8 proto,
							  bool loopback_is_node, struct row **found, __u32 *roles)
{
	struct frontend_key key = {};
	bool miss = true;

	/* Node ports and host ports stand there, but no packet asks for them. */
	if (!loopback_is_node && address_is_own(address))
		return FRONTEND_NONE;
	key.address = *address;
	key.port = port;
	key.proto = proto;
	*found = frontend_row(&key, &miss);
	if (*found)
		return FRONTEND_FOUND;
	if (!miss)
		return FRONTEND_STALE;
	*roles = loopback_is_node ? loopback_roles() : address_roles(address);
	if (*roles & ADDRESS_NODE) {
		address_any(address, &key.address);
		*found = frontend_row(&key, &miss);
		if (*found)
			return (*found)->kind == KIND_NODE_PORT && (*roles & ADDRESS_WITHOUT_NODE_PORTS) ? FRONTEND_NONE :
													   FRONTEND_FOUND;
		if (!miss)
			return FRONTEND_STALE;
	}
	if ((*roles & ADDRESS_REFUSE) && !(*roles & ADDRESS_PEER)) {
		/* A hash lookup may miss a key that is being replaced beside it: ask once more before refusing. */
		key.address = *address;
		*found = frontend_row(&key, &miss);
		return *found ? FRONTEND_FOUND : FRONTEND_UNDEFINED;
	}
	if (!*roles && address_in_service_range(address))
		return FRONTEND_FREE_ADDRESS;
	return FRONTEND_NONE;
}

/* Which window a client uses: design rule "windows by client". */
static __always_inline enum window client_window(const struct row *row, bool outside)
{
	if (row->kind == KIND_CLUSTER_IP)
		return WINDOW_INTERNAL;
	return outside ? WINDOW_EXTERNAL : WINDOW_CLUSTER;
}

static __always_inline __u64 frontend_window(const struct row *row, bool outside)
{
	const volatile __u64 *windows = row->window;

	switch (client_window(row, outside)) {
	case WINDOW_INTERNAL:
		return windows[WINDOW_INTERNAL];
	case WINDOW_EXTERNAL:
		return windows[WINDOW_EXTERNAL];
	default:
		return windows[WINDOW_CLUSTER];
	}
}
