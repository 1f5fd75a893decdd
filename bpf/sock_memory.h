/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What socket programs remember of a socket: which frontend it asked for and which backend it was pointed at, by its cookie, and with the
 * socket itself where connect() did that (ctx_t as in sock_target.h).
 */
#pragma once
#include "peer.h"
#include "record.h"
#include "sock_target.h"

static __always_inline void peer_fill(const struct socket_peer_key *key, const struct address *address, __be16 port,
				      const struct choice *choice, struct socket_peer *peer)
{
	peer->address = *address;
	peer->port = port;
	peer->pad = 0;
	peer->backend = choice->backend;
	peer->generation = choice->generation;
	peer->service = choice->service;
	peer->pad2 = 0;
	peer->check = peer_check(key, peer);
}

static __always_inline void peer_remember(const struct socket_peer_key *key, const struct address *address, __be16 port,
					  const struct choice *choice)
{
	struct socket_peer peer;

	peer_fill(key, address, port, choice, &peer);
	RECORD_UPDATE(&socket_peers, key, &peer, BPF_ANY);
}

/* What the last connect() of this UDP socket pointed it at, if that was a backend; NULL when the socket is not connected. */
static __always_inline struct socket_backend *connected_backend(ctx_t *ctx)
{
	struct bpf_sock *socket = ctx->sk;

	if (!socket || !*(__u16 *)&socket->dst_port)
		return NULL;
	return bpf_sk_storage_get(&socket_backends, socket, NULL, 0);
}

/* connect() points the socket at the backend of `choice`: remembered by its cookie, and of UDP with the socket too. */
static __always_inline void remember_connection(ctx_t *ctx, __u64 cookie, const struct target *target,
						const struct choice *choice)
{
	struct socket_backend made, *kept;
	struct bpf_sock *socket = ctx->sk;

	peer_key(&made.key, cookie, &choice->address, choice->port, target->proto, PEER_FRONTEND);
	peer_fill(&made.key, &target->address, target->port, choice, &made.peer);
	RECORD_UPDATE(&socket_peers, &made.key, &made.peer, BPF_ANY);
	if (target->proto != IPPROTO_UDP || !socket || !config_records)
		return;
	kept = bpf_sk_storage_get(&socket_backends, socket, &made, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = made;
}

/* connect() to a plain address: what an earlier one of this socket asked for there, or anywhere, is void. */
static __always_inline void forget_connection(ctx_t *ctx, __u64 cookie, const struct target *target)
{
	struct bpf_sock *socket = ctx->sk;
	struct socket_peer_key key;

	peer_key(&key, cookie, &target->address, target->port, target->proto, PEER_FRONTEND);
	RECORD_DELETE(&socket_peers, &key);
	if (target->proto == IPPROTO_UDP && socket && config_records)
		bpf_sk_storage_delete(&socket_backends, socket);
}

/* Remembers which frontend the socket asked for, so that it is told so by getpeername and recvmsg. False when the socket
 * already talks to this backend under another frontend, whose answers could not be told from these.
 */
static __always_inline bool remember_frontend(__u64 cookie, const struct target *target, const struct choice *choice)
{
	struct socket_peer_key key;
	struct socket_peer known;

	peer_key(&key, cookie, &choice->address, choice->port, target->proto, PEER_FRONTEND);
	if (peer_find(&key, &known))
		return address_equal(&known.address, &target->address) && known.port == target->port;
	peer_remember(&key, &target->address, target->port, choice);
	return true;
}

/* A send to a plain address: an answer from there is told as what it is, although the socket may have asked a frontend that led
 * there; but not where connect() pointed it.
 */
static __always_inline void forget_frontend(ctx_t *ctx, __u64 cookie, const struct target *target)
{
	struct socket_backend *kept;
	struct socket_peer_key key;

	peer_key(&key, cookie, &target->address, target->port, target->proto, PEER_FRONTEND);
	if (!bpf_map_lookup_elem(&socket_peers, &key))
		return;
	kept = connected_backend(ctx);
	if (!kept || !socket_backend_is(kept, &target->address, target->port))
		RECORD_DELETE(&socket_peers, &key);
}
