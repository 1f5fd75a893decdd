/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets without a flow (tc only): do they ask a frontend, and what becomes of them? And those of others that would be taken for
 * a flow's: they get out of its way, or it out of theirs.
 */
#pragma once
#include "affinity.h"
#include "conntrack.h"
#include "open.h"
#include "peer.h"
#include "source_route.h"

/* Is the packet of a connection that a socket of this node has, and so no request whatever its port? A global function for the
 * verifier's sake. Of UDP only a connected socket tells: a lookup that finds one has compared both ends.
 */
__noinline int belongs_to_socket(ctx_t *ctx)
{
	struct scratch *x = scratch_get();
	struct bpf_sock_tuple ends = {};
	struct bpf_sock *socket;
	__u32 size, exact;
	struct pkt *p;

	if (!x)
		return 0;
	p = &x->packet;
	/* Nobody can be asked for sockets of SCTP. */
	if (p->tuple.proto == IPPROTO_SCTP)
		return 0;
	size = tuple_ends(&p->tuple, p->v6, &ends);
	if (p->tuple.proto == IPPROTO_TCP) {
		socket = bpf_skc_lookup_tcp(ctx, &ends, size, BPF_F_CURRENT_NETNS, 0);
		if (!socket)
			return 0;
		exact = socket->state != BPF_TCP_LISTEN;
	} else {
		socket = bpf_sk_lookup_udp(ctx, &ends, size, BPF_F_CURRENT_NETNS, 0);
		if (!socket)
			return 0;
		exact = *(__u16 *)&socket->dst_port != 0;
	}
	bpf_sk_release(socket);
	return exact;
}

/* Was the packet's socket pointed by connect() at where the packet goes? Then the scratch's `asked` says what it asked for. The kernel
 * leaves a packet its socket on its way out of a pod. One that was connected before its storage was there is known by its cookie.
 */
__noinline int socket_asked(ctx_t *ctx)
{
	struct scratch *x = scratch_get();
	struct bpf_sock *socket = ctx->sk;
	struct socket_backend *kept;
	struct tuple *t;

	if (!x || !socket)
		return 0;
	socket = bpf_sk_fullsock(socket);
	if (!socket || !*(__u16 *)&socket->dst_port)
		return 0;
	t = &x->packet.tuple;
	kept = bpf_sk_storage_get(&socket_backends, socket, NULL, 0);
	if (kept) {
		x->asked = *kept;
		return socket_backend_is(&x->asked, &t->destination, t->destination_port);
	}
	peer_key(&x->asked.key, bpf_get_socket_cookie(ctx), &t->destination, t->destination_port, IPPROTO_UDP, PEER_FRONTEND);
	return peer_find(&x->asked.key, &x->asked.peer);
}

/* A packet straight to a backend, of a client that talks with it through a frontend too and from the same port: the answers of
 * both would look alike, so this conversation gets another source port. Asked of what may open one only.
 */
static __always_inline enum verdict stage_direct(struct pkt *p, enum hook hook)
{
	struct scratch *x = scratch_get();
	const struct settings *s = settings_get();
	struct opening *opening;
	enum flow_table table;
	struct met_backend *backend;

	if (!opens_handshake(p))
		return UNDECIDED;
	/* A packet that another build has just translated goes straight to its backend too. */
	if (!s || s->handover)
		return UNDECIDED;
	backend = near_backend(near_sum(&p->tuple.destination), p->tuple.destination_port, p->tuple.proto,
			       answer_hook(hook));
	if (!x || !backend || !backend->met)
		return UNDECIDED;
	tuple_reverse(&p->tuple, &x->inverse);
	x->inverse.hook = answer_hook(hook);
	if (!flow_find(&x->inverse, &x->flow, &table, false) || !x->flow.answer || x->flow.path == PATH_PORT_CHANGE ||
	    flow_translates_source(&x->inverse, &x->flow))
		return UNDECIDED;
	opening = opening_get();
	if (!opening)
		return UNDECIDED;
	opening->bystander = 1;
	opening->path = hook == HOOK_UPLINK_INGRESS ? PATH_OUTSIDE_LOCAL :
			hook == HOOK_POD_INGRESS    ? PATH_POD :
						      PATH_PORT_CHANGE;
	opening->choice.address = p->tuple.destination;
	opening->choice.port = p->tuple.destination_port;
	opening->choice.backend = x->flow.backend;
	opening->choice.generation = x->flow.generation;
	opening->choice.service = x->flow.service;
	return OPENS;
}

static __always_inline bool port_is_for_snat(__be16 port)
{
	const struct settings *s = settings_get();

	return s && (__u32)bpf_ntohs(port) - s->snat_first < s->snat_count;
}

/* Could the answers to this packet be taken for something of ours? From one of our source ports to a backend for those of a
 * translated flow; from the number of a node port or host port for a request.
 */
static __always_inline bool answers_would_be_near(const struct pkt *p)
{
	if (port_is_for_snat(p->tuple.source_port) &&
	    near_is_backend(near_sum(&p->tuple.destination), p->tuple.destination_port))
		return true;
	return near_port(p->tuple.source_port, p->tuple.proto);
}

static __always_inline bool has_other_proxy(const struct settings *s)
{
	return s->flags & (SETTING_OTHER_PROXY | SETTING_DRAINING);
}

/* A packet from this node's own address that is not ours, from such a port: a masquerade of a CNI, a process that bound it, or a
 * connection older than the reservation. It claims the pair of ports, so that its answers are known, and no translated flow takes
 * it; if one has it, it gets another port.
 */
static __always_inline enum verdict stage_claim(ctx_t *ctx, struct pkt *p)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_get();
	struct opening *opening;
	enum flow_table table;

	/* What another build has just translated is no connection of the node. */
	if (!s || !x || s->handover || !answers_would_be_near(p) || !(address_roles(&p->tuple.source) & ADDRESS_NODE))
		return UNDECIDED;
	/* What answers, or ends, claims nothing. */
	if (is_reset(p) || answers_handshake(p))
		return UNDECIDED;
	/* Nor is the answer to a request, which was translated where it left a device above this one, or by another proxy. */
	tuple_reverse(&p->tuple, &x->inverse);
	x->inverse.hook = HOOK_UPLINK_INGRESS;
	if (flow_find(&x->inverse, &x->flow, &table, false) && !x->flow.answer)
		return UNDECIDED;
	if (has_other_proxy(s) && conntrack_answers_dnat(ctx))
		return UNDECIDED;
	opening = opening_get();
	if (!opening)
		return UNDECIDED;
	opening->bystander = 1;
	opening->path = PATH_PORT_CHANGE;
	opening->choice.address = p->tuple.destination;
	opening->choice.port = p->tuple.destination_port;
	return OPENS;
}

/* Is the frontend at the node's own address, where connections of the node end too? */
static __always_inline bool is_node_level(const struct row *row, const struct pkt *p, __u32 roles)
{
	return row->kind == KIND_NODE_PORT || row->kind == KIND_HOST_PORT || (roles & ADDRESS_NODE) ||
	       (address_roles(&p->tuple.destination) & ADDRESS_NODE);
}

/* Does the packet, at the node's own address, belong to a connection that the node opened, or a pod that a CNI masquerades? Sockets
 * tell of the node's; of the others conntrack, which is not asked about what answers nothing.
 */
static __always_inline bool is_answer(ctx_t *ctx, const struct pkt *p)
{
	if (belongs_to_socket(ctx))
		return true;
	if (p->tuple.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return false;
	return conntrack_ask(ctx) & CONNTRACK_ANSWER;
}

/* Is the packet, to something of ours, of a connection that another proxy translates behind us, in the stack? What opens one is none:
 * of TCP and SCTP a first packet, of UDP one that conntrack does not know. Conntrack cannot be asked for SCTP, which is taken for theirs
 * as long as they may have any. The host's own packets are translated before they come here, if at all.
 */
static __always_inline bool is_of_other_proxy(ctx_t *ctx, const struct settings *s, const struct pkt *p, __u32 hook)
{
	if (!(s->flags & SETTING_OTHER_PROXY) || hook == HOOK_UPLINK_EGRESS)
		return false;
	if (p->tuple.proto == IPPROTO_SCTP)
		return !opens_handshake(p) && !answers_handshake(p);
	if (p->tuple.proto == IPPROTO_TCP && opens_handshake(p))
		return false;
	return (conntrack_ask(ctx) & (CONNTRACK_DNAT | CONNTRACK_ANSWER)) == CONNTRACK_DNAT;
}

/* Is there anything of ours at the packet's destination? A global function, for the verifier's sake. */
__noinline int asks_frontend(void)
{
	struct scratch *x = scratch_get();
	__u32 roles = 0;
	struct row *row;

	return x && frontend_find(&x->packet.tuple.destination, x->packet.tuple.destination_port, x->packet.tuple.proto, false,
				  &row, &roles) != FRONTEND_NONE;
}

static __always_inline bool row_refuses(const struct row *row, struct scratch *x)
{
	return (row->flags & ROW_SOURCE_RANGES) && !source_in_ranges(row->service, &x->packet.tuple.source, &x->range);
}

/* Of a flow that was let in by other source ranges: may its client still ask the frontend? `by_socket`: that stands in the scratch's
 * `asked`, as the packet goes to where a backend was. Returns 0 or a verdict. A global function, for the verifier's sake.
 */
__noinline int source_verdict(__u32 by_socket)
{
	struct scratch *x = scratch_get();
	__u32 roles = 0;
	struct row *row;

	if (!x)
		return DROP_SOURCE_RANGE;
	if (!by_socket) {
		x->asked.peer.address = x->packet.tuple.destination;
		x->asked.peer.port = x->packet.tuple.destination_port;
	}
	switch (frontend_find(&x->asked.peer.address, x->asked.peer.port, x->packet.tuple.proto, false, &row, &roles)) {
	case FRONTEND_FOUND:
		return row_refuses(row, x) ? DROP_SOURCE_RANGE : 0;
	case FRONTEND_STALE:
		return DROP_STALE_ROW;
	default:
		return 0;
	}
}

/* Chooses for the scratch's packet: what its client keeps, or by a hash. Returns 0 or a verdict. */
static __always_inline enum verdict stage_choice(struct scratch *x, const struct row *row, enum window which, __u64 window)
{
	const struct tuple *t = &x->packet.tuple;
	struct choice *choice = &x->opening.choice;
	bool keeps = row->affinity;
	enum verdict verdict;
	__u32 hash;

	if (keeps) {
		affinity_key(&x->client, &t->source, row->service, CLIENT_ADDRESS);
		if (affinity_find(&x->client, &x->kept, row, which, choice))
			return 0;
		hash = affinity_hash(&x->client, &x->kept);
	} else {
		hash = tuple_hash(t);
	}
	verdict = select_backend(row, window, hash, choice);
	if (!verdict && keeps)
		affinity_keep(&x->client, &x->kept, row, which, choice);
	return verdict;
}

/* Of a packet that asks `row`: may its source, which backend is it for, and which way does it go? OPENS, or a verdict. */
static __always_inline enum verdict stage_row(ctx_t *ctx, struct scratch *x, const struct row *row, __u32 hook)
{
	const bool outside = hook == HOOK_UPLINK_INGRESS;
	struct pkt *p = &x->packet;
	__u64 window = frontend_window(row, outside);
	__u32 policy = policy_count(row->service);
	struct opening *opening;
	enum verdict verdict;

	if (row_refuses(row, x))
		return DROP_SOURCE_RANGE;
	if ((p->options || p->source_route) && is_source_routed(ctx))
		return DROP_SOURCE_ROUTE;
	if (!(window >> 32))
		return (__u32)window == EMPTY_DROP ? DROP_NO_LOCAL_BACKEND : VERDICT_REFUSE;
	opening = opening_get();
	if (!opening)
		return DROP_TABLE_FULL;
	opening->policy = policy;
	verdict = stage_choice(x, row, client_window(row, outside), window);
	if (verdict)
		return verdict;
	verdict = choose_path(ctx, p, opening, hook);
	return verdict ? verdict : OPENS;
}

/* A datagram to where a backend was retired: is it of a socket that was pointed at that one? It goes on to a living backend of the
 * frontend that the socket asked for, with answers from the address that it knows, or is refused; never on to who has that address now.
 * Of the host it is refused: its socket is destroyed, or opened anew on the error. UNDECIDED: it is meant for who is there. A global
 * function, for the verifier's sake.
 */
__noinline int stage_retired(ctx_t *ctx, __u32 hook)
{
	const struct settings *s = settings_get();
	struct scratch *x = scratch_get();
	struct frontend_key key = {};
	struct row *row;
	__u32 roles = 0;
	struct pkt *p;

	if (!x || !s || (s->flags & SETTING_DRAINING))
		return UNDECIDED;
	p = &x->packet;
	key.address = p->tuple.destination;
	key.port = p->tuple.destination_port;
	key.proto = p->tuple.proto;
	if (!bpf_map_lookup_elem(&retired, &key) || !socket_asked(ctx) ||
	    backend_alive(x->asked.peer.backend, x->asked.peer.generation))
		return UNDECIDED;
	/* Its later pieces share its fate. */
	if (p->piece == PIECE_FIRST)
		fragment_remember(p, &p->tuple);
	if (hook != HOOK_POD_INGRESS) {
		p->service = x->asked.peer.service;
		return VERDICT_REFUSE;
	}
	switch (frontend_find(&x->asked.peer.address, x->asked.peer.port, IPPROTO_UDP, false, &row, &roles)) {
	case FRONTEND_FOUND:
		break;
	case FRONTEND_STALE:
		return DROP_STALE_ROW;
	default:
		return VERDICT_REFUSE;
	}
	p->service = row->service;
	return stage_row(ctx, x, row, hook);
}

/* A packet without a flow: is its destination a frontend, and what becomes of it? UNDECIDED: nothing. OPENS: it opens a flow, which the scratch's opening
 * describes. A global function, for the verifier's sake.
 */
__noinline int stage_frontend(ctx_t *ctx, __u32 hook)
{
	const bool outside = hook == HOOK_UPLINK_INGRESS;
	const struct settings *s = settings_get();
	struct scratch *x = scratch_get();
	enum frontend_result found;
	enum verdict verdict;
	struct row *row;
	__u32 roles = 0;
	bool node_level;
	struct pkt *p;

	if (!x || !s)
		return VERDICT_NEXT;
	p = &x->packet;
	found = frontend_find(&p->tuple.destination, p->tuple.destination_port, p->tuple.proto, false, &row, &roles);
	if (found != FRONTEND_NONE) {
		if (s->flags & SETTING_DRAINING)
			return VERDICT_NEXT;
		if (is_of_other_proxy(ctx, s, p, hook)) {
			/* Its later pieces share its fate. */
			if (p->piece == PIECE_FIRST)
				fragment_remember(p, &p->tuple);
			return VERDICT_OTHER_PROXY;
		}
	}
	switch (found) {
	case FRONTEND_NONE:
		verdict = stage_direct(p, hook);
		if (verdict != UNDECIDED)
			return verdict;
		if (hook == HOOK_UPLINK_EGRESS)
			return stage_claim(ctx, p);
		return VERDICT_NEXT;
	case FRONTEND_UNDEFINED:
		return VERDICT_REFUSE;
	case FRONTEND_FREE_ADDRESS:
		return DROP_FREE_SERVICE_ADDRESS;
	case FRONTEND_STALE:
		return DROP_STALE_ROW;
	case FRONTEND_FOUND:
		break;
	}
	p->service = row->service;
	/* To a client outside it is as if no Service had it. */
	if (outside && row->kind == KIND_CLUSTER_IP && (s->flags & SETTING_CLUSTER_IPS_INSIDE))
		return address_in_service_range(&p->tuple.destination) ? DROP_FREE_SERVICE_ADDRESS : VERDICT_NEXT;
	node_level = is_node_level(row, p, roles);
	/* The second half of a handshake opens nothing: it answers somebody, who is nobody behind a Service's address. */
	if (answers_handshake(p))
		return node_level ? VERDICT_NEXT : DROP_PORT_UNKNOWN;
	if (node_level && is_answer(ctx, p))
		return VERDICT_NEXT;
	return stage_row(ctx, x, row, hook);
}

/* Echo is answered where ports are refused. */
static __always_inline enum verdict stage_echo(ctx_t *ctx, const struct pkt *p)
{
	const struct settings *s = settings_get();
	__u32 roles = address_roles(&p->tuple.destination);

	if (!s || (s->flags & SETTING_DRAINING))
		return VERDICT_NEXT;
	if ((roles & ADDRESS_REFUSE) && !(roles & (ADDRESS_NODE | ADDRESS_PEER)))
		return (p->options || p->source_route) && is_source_routed(ctx) ? DROP_SOURCE_ROUTE : VERDICT_ECHO;
	return !roles && address_in_service_range(&p->tuple.destination) ? DROP_FREE_SERVICE_ADDRESS : VERDICT_NEXT;
}

/* A later fragment whose first one left nothing: where ports are refused it can be nobody else's. */
static __always_inline enum verdict stage_fragment(const struct pkt *p, bool forward)
{
	const struct settings *s = settings_get();

	if (!forward || !s || (s->flags & SETTING_DRAINING))
		return VERDICT_NEXT;
	return address_roles(&p->tuple.destination) & ADDRESS_REFUSE ? DROP_FRAGMENT_BEFORE_FIRST : VERDICT_NEXT;
}
