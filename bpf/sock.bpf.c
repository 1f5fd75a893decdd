/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The socket programs: a socket of this node is pointed at the backend when it connects or sends, so that none of its packets
 * is ever translated. The decision is made once, from the same rows and slots as for packets. IPv4 and IPv6 share all code
 * but reading and writing the address.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "maps.h"

typedef struct bpf_sock_addr ctx_t;

#include "address.h"
#include "affinity.h"
#include "frontend.h"
#include "peer.h"
#include "record.h"
#include "select.h"
#include "sock_memory.h"
#include "sock_target.h"
#include "source_range.h"

#define ECONNREFUSED 111
#define ALLOW 1
#define REJECT 0
#define CHOICE_TRIES 8
#define SLOTS_SEARCHED 256

enum outcome {
	UNCHANGED,
	POINTED, /* at the backend in `choice` */
	REFUSED,
};

static __always_inline void count_connection(__u32 service)
{
	struct service_counters *counters = bpf_map_lookup_elem(&service_stats, &service);

	if (counters)
		RECORD(counters->socket_connections, counters->socket_connections + 1);
}

/* The source that the socket's packets to `target` will have: what it is bound to, or of the host's sockets the node's own. All zero
 * when that is not known yet.
 */
static __always_inline void source_of(ctx_t *ctx, const struct settings *s, const struct target *target, bool host,
				      const bool v6, const bool sends, struct address *source)
{
	bool v4 = address_is_v4(&target->address);
	struct bpf_sock *socket = ctx->sk;
	__u32 uplink = s->uplink;
	struct device *device;

	__builtin_memset(source, 0, sizeof(*source));
	if (sends && v6) {
		source->half[0] = (__u64)ctx->msg_src_ip6[0] | ((__u64)ctx->msg_src_ip6[1] << 32);
		source->half[1] = (__u64)ctx->msg_src_ip6[2] | ((__u64)ctx->msg_src_ip6[3] << 32);
	} else if (sends) {
		address_from_v4(source, ctx->msg_src_ip4);
	} else if (socket && v4) {
		address_from_v4(source, socket->src_ip4);
	} else if (socket) {
		source->half[0] = (__u64)socket->src_ip6[0] | ((__u64)socket->src_ip6[1] << 32);
		source->half[1] = (__u64)socket->src_ip6[2] | ((__u64)socket->src_ip6[3] << 32);
	}
	if (!address_is_unspecified(source) || !host)
		return;
	device = bpf_map_lookup_elem(&devices, &uplink);
	if (device)
		*source = v4 ? device->source4 : device->source6;
}

/* Is the socket's source known, and in the Service's ranges? Else its packets tell, and are dropped by name. */
static __always_inline bool source_is_let_in(ctx_t *ctx, const struct settings *s, const struct target *target, bool host,
					     __u32 service, const bool v6, const bool sends)
{
	struct source_range_key key;
	struct address source;

	source_of(ctx, s, target, host, v6, sends, &source);
	return !address_is_unspecified(&source) && source_in_ranges(service, &source, &key);
}

/* The live window for `target`. UNCHANGED: it is not ours, or packets are dropped later by name. REFUSED: `choice` has the Service. */
static __always_inline enum outcome find_window(ctx_t *ctx, const struct target *target, struct row **row, __u64 *window,
						struct choice *choice, const bool v6, const bool sends)
{
	const struct settings *s = settings_get();
	bool host, loopback = address_is_own(&target->address);
	__u32 roles = 0;

	if (!s || s->sockets == SOCKETS_OFF || s->bypass || (s->flags & SETTING_DRAINING))
		return UNCHANGED;
	/* Without cookies (before 5.14) nobody knows whose socket it is: loopback stays the caller's own, and with host-only
	 * every socket is left to the packet programs.
	 */
	if (config_netns_cookie)
		host = bpf_get_netns_cookie(ctx) == s->node_cookie;
	else
		host = false;
	if (!host && (loopback || s->sockets == SOCKETS_HOST_ONLY))
		return UNCHANGED;
	switch (frontend_find(&target->address, target->port, target->proto, loopback, row, &roles)) {
	case FRONTEND_UNDEFINED:
		/* A UDP connect() sends nothing, and ping uses one to learn its source address: the packets are refused. */
		return target->proto == IPPROTO_TCP ? REFUSED : UNCHANGED;
	case FRONTEND_FOUND:
		break;
	default:
		return UNCHANGED;
	}
	if (((*row)->flags & ROW_SOURCE_RANGES) && !source_is_let_in(ctx, s, target, host, (*row)->service, v6, sends))
		return UNCHANGED;
	/* The client is a network namespace. Where nobody knows which, its packets tell an address. */
	if ((*row)->affinity && !config_netns_cookie)
		return UNCHANGED;
	*window = frontend_window(*row, false);
	if (*window >> 32)
		return POINTED;
	choice->service = (*row)->service;
	return (__u32)*window == EMPTY_DROP ? UNCHANGED : REFUSED;
}

/* Chooses the backend that the socket's network namespace keeps, else by `hash`. False when there is none. */
static __always_inline bool choose_for(ctx_t *ctx, const struct row *row, __u64 window, __u32 hash, struct choice *choice)
{
	enum window which = client_window(row, false);
	bool keeps = config_netns_cookie && row->affinity;
	struct address client = {};
	struct affinity_key key;
	struct affinity kept;

	if (keeps) {
		client.half[1] = bpf_get_netns_cookie(ctx);
		affinity_key(&key, &client, row->service, CLIENT_NETNS);
		if (affinity_find(&key, &kept, row, which, choice))
			return true;
		hash = affinity_hash(&key, &kept);
	}
	if (select_backend(row, window, hash, choice))
		return false;
	if (keeps)
		affinity_keep(&key, &kept, row, which, choice);
	return true;
}

/* connect(): random, so that a retry on the same socket can get another backend. */
static __always_inline enum outcome decide_connect(ctx_t *ctx, const struct target *target, struct choice *choice, const bool v6)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct row *row = NULL;
	enum outcome outcome;
	__u64 window = 0;

	outcome = find_window(ctx, target, &row, &window, choice, v6, false);
	if (outcome != POINTED || !row) {
		/* A socket that is refused stays connected as it was. */
		if (outcome == UNCHANGED)
			forget_connection(ctx, cookie, target);
		return outcome;
	}
	if (!choose_for(ctx, row, window, bpf_get_prandom_u32(), choice))
		return UNCHANGED;
	remember_connection(ctx, cookie, target, choice);
	return POINTED;
}

/* The frontend that a connected socket asked for, named again: the same conversation, whose answers it takes from there alone. When the
 * backend is gone a pod's device sends its packets on; nobody does so for the host.
 */
static __always_inline enum outcome decide_connected(ctx_t *ctx, const struct socket_backend *kept, struct choice *choice)
{
	const struct settings *s = settings_get();

	choice->address = kept->key.address;
	choice->port = kept->key.port;
	choice->service = kept->peer.service;
	if (backend_alive(kept->peer.backend, kept->peer.generation) || !s)
		return POINTED;
	return config_netns_cookie && bpf_get_netns_cookie(ctx) == s->node_cookie ? REFUSED : POINTED;
}

/* The first slot behind `offset`, in turns, that holds neither of these backends; the one where the search ended when none does. */
static __always_inline __u32 slot_of_others(__u64 window, __u32 offset, __u32 one, __u32 other)
{
	__u32 first = (__u32)window, count = (__u32)(window >> 32), at = offset;

	/* By a remainder, which tells the verifier nothing: steps that begin anew at the end would be as many states as slots squared. */
#pragma clang loop unroll(disable)
	for (__u32 i = 1; i < SLOTS_SEARCHED; i++) {
		struct slot *slot;
		__u32 index;

		at = (offset + i) % count;
		index = first + at;
		slot = bpf_map_lookup_elem(&slots, &index);
		if (!slot || (slot->backend != one && slot->backend != other))
			break;
	}
	return at;
}

/* Chooses by `hash`; when the socket already talks to that backend under another frontend, the next one that it does not, however often
 * each stands in the window: with as many backends as frontends asked, every one gets its own. When none is found it is the last one
 * tried. False when no backend lives.
 */
static __always_inline bool choose_apart(__u64 cookie, const struct target *target, const struct row *row, __u64 window,
					 __u32 hash, struct choice *choice)
{
	__u32 offset = (__u32)(((__u64)hash * (window >> 32)) >> 32), one;

	if (select_backend(row, window, hash, choice))
		return false;
	one = choice->backend;
#pragma clang loop unroll(disable)
	for (int i = 0; i < CHOICE_TRIES; i++) {
		if (remember_frontend(cookie, target, choice))
			break;
		offset = slot_of_others(window, offset, one, choice->backend);
		choose_slot(row, (__u32)window + offset, choice);
	}
	return true;
}

/* The backend that this socket's sends to a frontend were given. False when it is gone, or has the socket's ear under another frontend. */
static __always_inline bool take_chosen(__u64 cookie, const struct target *target, const struct socket_peer *chosen,
					struct choice *choice)
{
	if (!backend_alive(chosen->backend, chosen->generation))
		return false;
	choice->address = chosen->address;
	choice->port = chosen->port;
	choice->backend = chosen->backend;
	choice->generation = chosen->generation;
	choice->service = chosen->service;
	return remember_frontend(cookie, target, choice);
}

/* A send while frontends open nothing: the conversation that this socket has with the frontend goes on. */
static __always_inline enum outcome decide_draining(ctx_t *ctx, __u64 cookie, const struct target *target, struct choice *choice)
{
	struct socket_backend *kept = connected_backend(ctx);
	struct socket_peer_key choice_key;
	struct socket_peer chosen;

	if (kept && kept->peer.port == target->port && address_equal(&kept->peer.address, &target->address))
		return decide_connected(ctx, kept, choice);
	peer_key(&choice_key, cookie, &target->address, target->port, target->proto, PEER_CHOICE);
	return peer_find(&choice_key, &chosen) && take_chosen(cookie, target, &chosen, choice) ? POINTED : UNCHANGED;
}

/* sendmsg() to a frontend: the same backend for the same socket and frontend while it lives. */
static __always_inline enum outcome decide_send(ctx_t *ctx, const struct target *target, struct choice *choice, bool *fresh,
						const bool v6)
{
	const struct settings *s = settings_get();
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct socket_peer_key choice_key;
	struct socket_backend *kept;
	struct socket_peer chosen;
	struct row *row = NULL;
	enum outcome outcome;
	__u64 window = 0;

	if (s && (s->flags & SETTING_DRAINING) && !s->bypass)
		return decide_draining(ctx, cookie, target, choice);
	outcome = find_window(ctx, target, &row, &window, choice, v6, true);
	if (outcome == UNCHANGED)
		forget_frontend(ctx, cookie, target);
	if (outcome != POINTED || !row)
		return outcome;
	kept = connected_backend(ctx);
	if (kept && kept->peer.port == target->port && address_equal(&kept->peer.address, &target->address))
		return decide_connected(ctx, kept, choice);
	peer_key(&choice_key, cookie, &target->address, target->port, target->proto, PEER_CHOICE);
	if (peer_find(&choice_key, &chosen) && chosen.service == row->service && take_chosen(cookie, target, &chosen, choice))
		return POINTED;
	__u32 hash = mix_final(cookie * MIX1 ^ (target->address.half[1] + target->port) * MIX2);

	bool known = row->affinity && choose_for(ctx, row, window, hash, choice) && remember_frontend(cookie, target, choice);

	if (!known && !choose_apart(cookie, target, row, window, hash, choice))
		return UNCHANGED;
	peer_remember(&choice_key, &choice->address, choice->port, choice);
	*fresh = true;
	return POINTED;
}

/* ECONNREFUSED. Below 5.18 a TCP socket is pointed at a port nobody can listen on, and anything else gets EPERM. */
static __always_inline int reject(ctx_t *ctx, enum hook hook, __u32 service, const bool v6)
{
	struct address loopback = { .half = { 0, 0x0100000000000000ULL } };
	struct refusal_key refusal = { .service = service, .hook = (__u8)hook, .verdict = VERDICT_REFUSE };

	count_verdict(hook, VERDICT_REFUSE);
	count_refusal(&refusal);
	if (config_set_retval) {
		bpf_set_retval(-ECONNREFUSED);
		return REJECT;
	}
	if (hook != HOOK_CONNECT || ctx->protocol != IPPROTO_TCP)
		return REJECT;
	if (!v6)
		address_from_v4(&loopback, 0x0100007f);
	point_at(ctx, &loopback, 0, v6);
	return ALLOW;
}

/* Carries out what was decided for a connect() or a send; `opened` is whether it counts as a connection. */
static __always_inline int carry_out(ctx_t *ctx, enum hook hook, enum outcome outcome, const struct choice *choice,
				     bool opened, const bool v6)
{
	switch (outcome) {
	case REFUSED:
		return reject(ctx, hook, choice->service, v6);
	case POINTED:
		point_at(ctx, &choice->address, choice->port, v6);
		count_verdict(hook, VERDICT_CONNECT);
		if (opened)
			count_connection(choice->service);
		break;
	case UNCHANGED:
		break;
	}
	return ALLOW;
}

static __always_inline int on_connect(ctx_t *ctx, const bool v6)
{
	struct target target = {};
	struct choice choice = {};

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return ALLOW;
	target_read(ctx, &target, v6);
	return carry_out(ctx, HOOK_CONNECT, decide_connect(ctx, &target, &choice, v6), &choice, true, v6);
}

static __always_inline int on_sendmsg(ctx_t *ctx, const bool v6)
{
	struct target target = {};
	struct choice choice = {};
	enum outcome outcome;
	bool fresh = false;

	if (ctx->protocol != IPPROTO_UDP)
		return ALLOW;
	target_read(ctx, &target, v6);
	outcome = decide_send(ctx, &target, &choice, &fresh, v6);
	return carry_out(ctx, HOOK_SENDMSG, outcome, &choice, fresh, v6);
}

/* recvmsg() and getpeername(): the socket is told the frontend that it asked for. */
static __always_inline int on_name(ctx_t *ctx, const bool v6)
{
	struct socket_peer_key key;
	struct target target = {};
	struct socket_peer peer;

	target_read(ctx, &target, v6);
	peer_key(&key, bpf_get_socket_cookie(ctx), &target.address, target.port, target.proto, PEER_FRONTEND);
	if (peer_find(&key, &peer)) {
		point_at(ctx, &peer.address, peer.port, v6);
	} else if (target.proto == IPPROTO_UDP) {
		struct socket_backend *kept = connected_backend(ctx);

		if (kept && socket_backend_is(kept, &target.address, target.port))
			point_at(ctx, &kept->peer.address, kept->peer.port, v6);
	}
	return ALLOW;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, false);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, true);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return on_sendmsg(ctx, false);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return on_sendmsg(ctx, true);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return on_name(ctx, false);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return on_name(ctx, true);
}

SEC("cgroup/getpeername4")
int sock_peername4(struct bpf_sock_addr *ctx)
{
	return on_name(ctx, false);
}

SEC("cgroup/getpeername6")
int sock_peername6(struct bpf_sock_addr *ctx)
{
	return on_name(ctx, true);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
