/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What does not fit the stack: the packet at hand, its flow, and what stages hand on to each other. */
#pragma once
#include "parse.h"
#include "select.h"

struct opening {
	struct choice choice;
	struct address source; /* SNAT source, all zero to keep the client's */
	__u8 path;	/* enum flow_path */
	__u8 midstream; /* the packet at hand is no SYN */
	__u8 bystander; /* no frontend was asked: where no flow can be made the packet goes on as it came */
	__u8 pad;
	__u32 policy; /* see struct flow */
};

/* What does not fit the stack. One per CPU and object: packet programs of one object do not interrupt each other (tc and XDP
 * run with softirqs off), and socket programs, which they do interrupt, have none.
 */
struct scratch {
	struct flow flow; /* the flow at hand: first, see scratch_of() */
	struct pkt packet;
	struct flow partner;
	struct flow copy; /* of an entry that another CPU made first */
	struct tuple partner_key;
	/* A packet is one of these at most. */
	union {
		struct tuple reply;   /* what we answer with: its ends */
		struct tuple route;   /* what a route is asked for */
		struct tuple inverse; /* the answers to a packet that is no frontend's */
		struct {
			struct tuple quoted;   /* what an ICMP error quotes */
			struct tuple original; /* what that was before it was translated */
			struct tuple ends;     /* of the error itself */
			__u32 inner; /* offset of the quoted packet */
			__u32 l4;    /* and of its transport header */
			__u32 later; /* it is a later fragment, and has none */
			__u32 pad;
		} icmp;
	};
	struct opening opening;
	struct bpf_fib_lookup fib;
	struct bpf_redir_neigh neighbour;
	__u32 pad;
	struct next_hop hop;
	struct fragment_key piece;
	union {
		__u32 words[32]; /* of a packet, to be summed or looked through */
		struct liveness_message message;
		__u64 hashed[LIVENESS_WORDS]; /* of that message what its tag covers */
	};
	__u64 tag;
	__u32 replies_since; /* jiffies: the second that `replies` were made in */
	__u32 replies;
	__u32 sizes;
	__u32 answers_since; /* as of replies, of answers about this node's life */
	__u32 answers;
	__u32 pad2;
	struct refusal_key refusal;
	struct socket_backend asked; /* by the socket of the packet at hand */
	struct affinity_key client;
	struct affinity kept;
	struct source_range_key range;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* The scratch whose flow `f` is: `f` is always that one, and asking the map again for each step costs 3 ns. */
static __always_inline struct scratch *scratch_of(struct flow *f)
{
	return (struct scratch *)f; /* the first member */
}

/* The same by the packet at hand, which is the scratch's too. */
static __always_inline struct scratch *scratch_of_packet(struct pkt *p)
{
	return (struct scratch *)((void *)p - __builtin_offsetof(struct scratch, packet));
}

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}
