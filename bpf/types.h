/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* With announce_types.h every struct and enum that the programs and the controller share. `make bpf` reads them back from the object's BTF and
 * generates src/datapath/layout.gen.ts, so nothing here is mirrored by hand. Padding is explicit: the build refuses any other.
 * Addresses are 16 bytes in network order, IPv4 as IPv4-mapped (::ffff:a.b.c.d). Little-endian hosts only.
 */
#pragma once
#include <linux/types.h>

struct address {
	__be64 half[2];
};

/* Key of `frontends`. Node ports and host ports on every address of the node stand under ::ffff:0.0.0.0 and ::. */
struct frontend_key {
	struct address address;
	__be16 port;
	__u8 proto;
	__u8 pad[5];
};

/* Value of `frontends`: constant for the key's life, read by one 64-bit load. */
struct frontend {
	__u32 row;
	__u32 generation;
};

enum frontend_kind {
	KIND_NONE = 0,
	KIND_CLUSTER_IP = 1,
	KIND_NODE_PORT = 2,
	KIND_LOAD_BALANCER = 3,
	KIND_HOST_PORT = 4,
	KIND_EXTERNAL_IP = 5,
};

/* Index into row.window. */
enum window {
	WINDOW_EXTERNAL = 0,
	WINDOW_INTERNAL = 1,
	WINDOW_CLUSTER = 2,
};

/* A window word is count << 32 | first. With count 0, first says what becomes of the packet. */
enum empty_window {
	EMPTY_REFUSE = 0,
	EMPTY_DROP = 1,
};

enum row_flag {
	ROW_SOURCE_RANGES = 1, /* only clients in `source_ranges` are served */
};

/* Element of `rows`. The word from `kind` on and each window change on a live row by one 64-bit store; all else is constant while a
 * frontend points here.
 */
struct row {
	struct frontend_key key;
	__u32 generation;
	__u32 service;
	__u8 kind;  /* enum frontend_kind */
	__u8 flags; /* enum row_flag */
	__u16 pad;
	__u32 affinity; /* seconds that a client keeps its backend after its last new connection; 0: none */
	__u64 window[3];
};

struct slot {
	__u32 backend;
	__u32 generation;
};

enum backend_state {
	BACKEND_FREE = 0,
	BACKEND_REMOTE = 1,
	BACKEND_LOCAL = 2,
	BACKEND_RETIRED = 3,
};

/* Of the word of a backend, where its fields begin. */
enum backend_word {
	BACKEND_STATE = 32,   /* enum backend_state, 8 bits */
	BACKEND_WINDOWS = 40, /* a bit for each enum window that shows it: set before that does, cleared after */
};

/* Element of `backends`. The word holds the generation in its lower half, and is the only part that changes while the backend lives. */
struct backend {
	struct address address;
	__be16 port;
	__u16 pad;
	__u32 service;
	__u64 word;
};

/* One direction of a conversation, as its packets arrive. As a key of the flow tables it holds the hook that translates them
 * (HOOK_UPLINK_INGRESS for XDP too), so that no packet at one hook makes, finds or ends a flow of another; `flow.write` holds
 * that of the partner's key.
 */
struct tuple {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 proto;
	__u8 hook; /* enum hook */
	__u8 pad[2];
};

/* The way of a flow's packets: who the client is, and where the backend. It fixes at which hook each direction is
 * translated and how it leaves; see docs/packet-paths.md.
 */
enum flow_path {
	PATH_NONE = 0,
	PATH_OUTSIDE_LOCAL = 1,	 /* client outside, backend on this node: uplink ingress, answers at uplink egress */
	PATH_OUTSIDE_REMOTE = 2, /* client outside, backend elsewhere: both at uplink ingress, source translated, redirected */
	PATH_POD = 3,		 /* client a pod of this node: ingress of its device, answers at egress of it */
	PATH_HAIRPIN = 4,	 /* a pod that is its own backend: both at ingress of its device, source translated */
	PATH_HOST_REMOTE = 5,	 /* a process of this node past the sockets: uplink egress, answers at uplink ingress */
	PATH_HOST_LOCAL = 6,	 /* the same, backend in a pod of this node: answers at ingress of the pod's device */
	PATH_PORT_CHANGE = 7,	 /* a connection of this node that is not ours: it claims its ports, or gets another one */
	PATH_MAX = 8,
};

enum flow_state {
	STATE_ANSWERED = 1,    /* SYN-ACK, or a first answer, was seen */
	STATE_ESTABLISHED = 2, /* both directions were seen to agree */
	STATE_FIN_CLIENT = 4,
	STATE_FIN_BACKEND = 8,
	STATE_RESET = 16,
	STATE_MIDSTREAM = 32, /* the first packet seen was no SYN */
	STATE_CLIENT_WENT_ON = 64,   /* the client sent after a reset was seen */
	STATE_BACKEND_WENT_ON = 128, /* the backend did; after both the reset was none */
};

enum next_hop_flag {
	HOP_XDP_TARGET = 1, /* XDP frames may be sent out of the device */
	HOP_STACK = 2,	    /* a pod's packet that the stack routes; else its bridge switches it */
};

/* What a route lookup found, kept for a second: it costs more than all the rest of a packet's way. */
struct next_hop {
	__u32 ifindex;
	__u32 asked; /* jiffies when the route was asked for, low 32 bits */
	__u8 destination_mac[6];
	__u16 mtu;
	__u8 source_mac[6];
	__u8 flags; /* enum next_hop_flag */
	__u8 valid; /* 0: never asked */
};

/* Value of `tcp_flows`, `udp_flows` and `openings`; the key is the tuple as it arrives. The partner's key is `write`
 * reversed, and the partner writes this entry's key reversed: either direction can rebuild the other. `check` covers the key
 * and all that is constant, since an element of a hash can be reused while it is read.
 */
struct flow {
	struct tuple write;
	__u32 backend;
	__u32 generation;
	__u32 service;
	__u32 check;
	__u32 seen;	/* jiffies, low 32 bits: modular arithmetic only */
	__u32 state;	/* enum flow_state */
	__u32 number;	/* host order. In `openings`, of the request: sequence number of the newest SYN-ACK. In `tcp_flows`: the
			 * newest acknowledgement of this direction, which is what a reset of the other one is measured by
			 */
	__u8 path;	/* enum flow_path */
	__u8 answer;	/* 1: from the backend to the client */
	__u16 pad;
	struct next_hop hop; /* of this direction; several CPUs may write it at once */
	__u32 hop_check;     /* over `hop` and `check`: a mixture, or a hop of another flow, does not count */
	__u32 policy;	     /* of a request: `service_policies` when its source was let in, low 32 bits */
};

enum client_kind {
	CLIENT_ADDRESS = 0,
	CLIENT_NETNS = 1, /* the second half of the address is the cookie of a network namespace */
};

/* Key of `affinity`: a client of one Service port. */
struct affinity_key {
	struct address client;
	__u32 service;
	__u8 kind; /* enum client_kind */
	__u8 pad[3];
};

/* Value of `affinity`: the backend that the client keeps, while that serves in the window that the client uses. */
struct affinity {
	__u32 backend;
	__u32 generation;
	__u64 used;  /* jiffies, all 64 bits, of the client's last new connection */
	__u32 check; /* over the key and the backend, as an element can be reused while it is read */
	__u32 pad;
};

/* Key of `source_ranges`, a longest prefix match: the Service, then the network of its clients. `prefixlen` counts the Service's 32
 * bits, and the 96 of the mapped form before an IPv4 prefix. The value is the Service again, as elements can be reused while they are
 * read.
 */
struct source_range_key {
	__u32 prefixlen;
	__u32 service;
	struct address address;
};

/* Element of `service_policies`, by service id. */
struct service_policy {
	__u64 count; /* raised when the Service lets in other clients: established flows are looked at again */
};

/* Value of `retired`. Under port 0 an address stands of which pods may ask the link-layer address. */
struct retired_backend {
	__u64 seen; /* jiffies, all 64 bits: when a backend there was retired last */
};

/* Element of `met_backends`. */
struct met_backend {
	__u64 met; /* 0: no flow leads to such a backend. Else jiffies, all 64 bits, when one was opened last */
};

/* What a bucket of `near` says of the addresses that fall into it, four bits each. */
enum near_flag {
	NEAR_FRONTEND = 1, /* a frontend, an address that refuses, or a retired backend may be there: always look closer */
	NEAR_NODE = 2,	   /* an address of this node: look closer where a node or host port may be */
	NEAR_BACKEND = 4,  /* a backend may be there: its bucket is of the address and the port */
};

/* Element of `near`: first the buckets of addresses, sixteen a word, then the ports of the node, a bit each, of TCP and of UDP. */
struct near_word {
	__u64 bits;
};

enum address_role {
	ADDRESS_NODE = 1,
	ADDRESS_REFUSE = 2,
	ADDRESS_PEER = 4, /* another node's or another proxy's: never refused, and no free Service address */
	ADDRESS_WITHOUT_NODE_PORTS = 8, /* the node's: its host ports answer there, node ports do not */
};

enum range_kind {
	RANGE_END = 0, /* ends the list */
	RANGE_SERVICES = 1,
	RANGE_EXEMPT = 2, /* a network of this node inside a Service range: comes first in the list */
};

struct service_range {
	struct address address;
	struct address mask;
	__u64 kind; /* enum range_kind */
};

enum device_flag {
	DEVICE_XDP_TARGET = 1, /* XDP frames may be sent out of it */
	DEVICE_NO_LINK_HEADER = 2,
};

/* Value of `devices`, by ifindex. */
struct device {
	__u32 master; /* ifindex of the bridge that it is a port of, 0 when none */
	__u32 flags;  /* enum device_flag */
	__u32 mtu;
	__u8 mac[6];
	__u8 accepts[6];	/* what frames for this machine are addressed to: its bridge's MAC, else its own */
	struct address source4; /* what SNAT writes for packets that leave by it; all zero when it has none */
	struct address source6;
	struct address pod4; /* the address of the only pod behind it; all zero when that is not known */
	struct address pod6;
};

/* Key of `fragments`: an IP datagram that comes in pieces (RFC 791, RFC 8200 section 4.5). */
struct fragment_key {
	struct address source;
	struct address destination;
	__u32 id; /* as it stands in the packet */
	__u8 proto;
	__u8 hook; /* enum hook */
	__u16 pad;
};

/* Value of `fragments`, read by one 64-bit load: the ports that only the first piece carries. */
struct fragment {
	__be16 source_port;
	__be16 destination_port;
	__u32 seen; /* jiffies, low 32 bits */
};

enum sockets_mode {
	SOCKETS_ALL = 0,
	SOCKETS_HOST_ONLY = 1,
	SOCKETS_OFF = 2,
};

enum setting_flag {
	SETTING_SOURCE_ROUTES = 1,	/* rules route by source: answers of pods are routed by the frontend's address */
	SETTING_CLUSTER_IPS_INSIDE = 2, /* clients outside are not served on ClusterIPs */
	SETTING_LOOPBACK_WITHOUT_NODE_PORTS = 4, /* node ports do not answer on loopback addresses */
	SETTING_OTHER_PROXY = 8, /* another proxy translates connections: conntrack is asked for them before a flow is opened */
	SETTING_DRAINING = 16,	 /* no frontend opens a flow, refuses or drops: known flows alone are translated */
};

/* The one element of `settings`. Deadlines are jiffies, all 64 bits: nothing stays on when the agent that set it is gone. */
struct settings {
	__u64 node_cookie; /* cookie of the agent's network namespace */
	__u64 bypass; /* not 0: nothing is translated. A word of its own: a command writes it, with or without an agent */
	__u64 tcp_full_until; /* no new TCP flows before */
	__u64 udp_full_until;
	__u64 crowded_until; /* `crowded_clients` is asked before */
	__u32 sockets;	     /* enum sockets_mode */
	__u32 hz;	     /* jiffies a second */
	__u32 snat_first;
	__u32 snat_count;
	__u32 uplink;	   /* ifindex of the default route's device */
	__u32 forward_mark; /* bit set in the mark of translated packets that the stack forwards; 0 sets none */
	__u32 handover;	    /* not 0: programs of the build before run ahead of these, which see packets that those translated */
	__u32 tunnel;	    /* ifindex of the device of all routes with an encapsulation of their own; 0: none, or several */
	__u32 replies;	    /* how many a CPU makes in a second: resets, ICMP errors, echo */
	__u32 flags;	    /* enum setting_flag */
};

enum peer_kind {
	PEER_FRONTEND = 0, /* key holds the backend, value the frontend that was asked for */
	PEER_CHOICE = 1,   /* key holds the frontend, value the backend that was chosen */
};

struct socket_peer_key {
	__u64 cookie;
	struct address address;
	__be16 port;
	__u8 proto;
	__u8 kind; /* enum peer_kind */
	__u32 pad;
};

struct socket_peer {
	struct address address;
	__be16 port;
	__u16 pad;
	__u32 check;
	__u32 backend;
	__u32 generation;
	__u32 service;
	__u32 pad2;
};

/* Value of `socket_backends`: the entry of `socket_peers`, of kind PEER_FRONTEND, that a UDP socket's connect() made. `peer.check` tells
 * a mixture of two.
 */
struct socket_backend {
	struct socket_peer_key key;
	struct socket_peer peer;
};

struct service_counters {
	__u64 connections;
	__u64 packets;
	__u64 bytes;
	__u64 socket_connections; /* counted by socket programs: they are interrupted by packet programs */
};

/* Key of `service_refusals`: what was refused or dropped on its way to this Service. */
struct refusal_key {
	__u32 service;
	__u8 hook;    /* enum hook */
	__u8 verdict; /* VERDICT_REFUSE, or one of the drops */
	__u16 pad;
};

enum hook {
	HOOK_NONE = 0,
	HOOK_UPLINK_INGRESS = 1,
	HOOK_UPLINK_EGRESS = 2,
	HOOK_POD_INGRESS = 3,
	HOOK_POD_EGRESS = 4,
	HOOK_XDP = 5,
	HOOK_CONNECT = 6,
	HOOK_SENDMSG = 7,
	HOOK_RECVMSG = 8,
	HOOK_MAX = 9,
};

/* What was decided for a packet, by name. Index of `verdicts` is hook * VERDICT_MAX + verdict. */
enum verdict {
	VERDICT_NEXT = 0,	     /* not ours: unchanged to whoever is next */
	VERDICT_PASS = 1,	     /* translated, on to the stack */
	VERDICT_FORWARD = 2,	     /* translated and redirected */
	VERDICT_CONNECT = 3,	     /* a socket was pointed at a backend */
	VERDICT_REFUSE = 4,	     /* answered with RST, port unreachable or ECONNREFUSED */
	VERDICT_ECHO = 5,	     /* an echo request to a frontend's address was answered */
	VERDICT_NEIGHBOUR = 6,	     /* an ARP or neighbour request for an announced or a retired address was answered */
	VERDICT_TOO_BIG = 7,	     /* answered with fragmentation needed or packet too big */
	VERDICT_ICMP = 8,	     /* an ICMP error about a translated flow was translated */
	DROP_NO_LOCAL_BACKEND = 9,   /* policy Local, endpoints elsewhere only */
	DROP_STALE_ROW = 10,	     /* a frontend's row did not match twice */
	DROP_STALE_BACKEND = 11,     /* every slot tried held a retired backend */
	DROP_FREE_SERVICE_ADDRESS = 12,
	DROP_FRAGMENT_BEFORE_FIRST = 13, /* a later fragment whose first one, which has the ports, was not seen */
	DROP_TABLE_FULL = 14,
	DROP_NO_SOURCE_PORT = 15,
	DROP_NO_SOURCE_ADDRESS = 16, /* no SNAT address on the output device */
	DROP_NO_ROUTE = 17,
	DROP_ICMP_REDIRECT = 18,
	DROP_TTL = 19,
	DROP_REWRITE = 20,	     /* a helper failed on a packet half rewritten */
	DROP_HOST_TO_HOST = 21,	     /* a host's packet past the sockets for a backend on its own address */
	DROP_PORT_UNKNOWN = 22,	     /* could be refused only by name: it is itself an error or a reset */
	DROP_REPLY_LIMIT = 23,	     /* would have been answered, but this CPU made its share of replies this second */
	DROP_SOURCE_ROUTE = 24,	     /* a packet to a frontend that names its own way (RFC 7126, RFC 5095) */
	DROP_CLIENT_SHARE = 25,	     /* the table fills, and this client has its share of it */
	DROP_SOURCE_RANGE = 26,	     /* a client outside of the Service's source ranges */
	VERDICT_TIME_EXCEEDED = 27,  /* no hop left where we forward: answered with time exceeded */
	DROP_SCTP_FRAGMENT = 28,     /* a port would change, and the checksum covers pieces that are not here */
	VERDICT_LIVENESS = 29,	     /* another node's question whether this one lives was answered */
	VERDICT_OTHER_PROXY = 30,    /* of a connection that conntrack translates for another proxy: goes on as it came */
	VERDICT_MAX = 31,
};
