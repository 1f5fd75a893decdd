/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What sockets were pointed at, as socket programs keep it and packet programs read it. */
#pragma once
#include "maps.h"
#include "address.h"
#include "select.h"

static __always_inline __u32 peer_check(const struct socket_peer_key *key, const struct socket_peer *peer)
{
	__u64 h = (key->cookie ^ MIX1) * MIX2 + (key->address.half[0] ^ MIX2) * MIX3 + (key->address.half[1] ^ MIX3) * MIX4;

	h += (((__u64)key->port << 16 | key->proto << 8 | key->kind) ^ MIX4) * MIX5;
	h += (peer->address.half[0] ^ MIX5) * MIX1 + (peer->address.half[1] ^ MIX1) * MIX3;
	h += (((__u64)peer->port << 32 | peer->backend) ^ MIX2) * MIX4;
	h += (((__u64)peer->generation << 32 | peer->service) ^ MIX3) * MIX5;
	return (__u32)(h ^ (h >> 32));
}

static __always_inline void peer_key(struct socket_peer_key *key, __u64 cookie, const struct address *address, __be16 port,
				     __u8 proto, __u8 kind)
{
	key->cookie = cookie;
	key->address = *address;
	key->port = port;
	key->proto = proto;
	key->kind = kind;
	key->pad = 0;
}

/* A consistent copy of the entry of `key`; false when there is none. */
static __always_inline bool peer_find(const struct socket_peer_key *key, struct socket_peer *copy)
{
	struct socket_peer *peer = bpf_map_lookup_elem(&socket_peers, key);

	if (!peer)
		return false;
	*copy = *peer;
	return copy->check == peer_check(key, copy);
}

/* Is what a socket's storage held one whole entry, of a socket that was pointed at this address and port? */
static __always_inline bool socket_backend_is(const struct socket_backend *kept, const struct address *address, __be16 port)
{
	return kept->key.port == port && address_equal(&kept->key.address, address) &&
	       kept->peer.check == peer_check(&kept->key, &kept->peer);
}
