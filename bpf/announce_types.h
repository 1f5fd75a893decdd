/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs and the controller share of announced addresses, and of nodes that ask each other whether they live: see types.h. */
#pragma once
#include "types.h"

/* Key of `announced`: a LoadBalancer address that this node answers ARP or NDP for on a device. And of `neighbour_questions`: an address
 * that was asked for there.
 */
struct announced_key {
	struct address address;
	__u32 ifindex;
	__u32 pad;
};

/* Boot clock in nanoseconds, 0 never. After `stale` it still answers but gives the address up on hearing another MAC claim it; from
 * `silent` on it does not answer, and so a row with 0 there only listens. `conflict` is set by the program when it gave up, and counts
 * until a later `renewed`. What is heard of machines that are not this node is kept at any age: the last two that said that the
 * address is theirs, newest first, and the last that asked whether it is free (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2).
 * Each with its MAC in the six low bytes of one word, which so is never a mixture of two, and in the highest byte the low one of its
 * time >> 20, as an element is not copied at once. The controller changes times in place, by tc_renew: what is heard meanwhile stays.
 */
struct announcement {
	__u64 renewed;
	__u64 stale;
	__u64 silent;
	__u64 conflict;
	__u64 claimant[2];
	__u64 claimed[2];
	__u64 prober;
	__u64 probed;
};

enum liveness_limit {
	LIVENESS_KEYS = 4,
	LIVENESS_MACS = 8,	/* that the program knows as this node's */
	LIVENESS_MACS_SENT = 4, /* the first ones */
	LIVENESS_WORDS = 8,	/* of a message before its tag */
};

enum liveness_kind {
	LIVENESS_QUESTION = 1,
	LIVENESS_ANSWER = 2,
};

enum liveness_flag {
	LIVENESS_SOUND = 1,   /* the self-check of the last renewal passed */
	LIVENESS_LEAVING = 2, /* this node gives its addresses up by itself */
};

/* A datagram that asks a node whether it lives, and the answer: all of its payload. SipHash-2-4 of all before `tag`, in its own byte
 * order. In a question what is not named here is zero. docs/packet-paths.md tells who sends it when.
 */
struct liveness_message {
	__be32 magic;
	__u8 version;
	__u8 kind;  /* enum liveness_kind */
	__u8 key;   /* of a question and its answer: the lowest byte of the key's SipHash of nothing */
	__u8 flags; /* enum liveness_flag */
	__be64 nonce; /* of the question, echoed */
	__be64 node;  /* of a question and of an answer: who sent it */
	__be64 incarnation;
	__be32 age; /* milliseconds since the last renewal; all ones: never, or longer */
	__u8 macs[4][6]; /* of the node's uplinks; zero where there are fewer */
	__be32 reserved;
	__u64 tag;
};

struct liveness_key {
	__u64 half[2]; /* as SipHash takes them */
	__u32 id; /* the lowest byte of SipHash of nothing, plus 0x100; 0: there is no key here */
	__u32 pad;
};

/* The one element of `liveness`: what the program tells of this node to who asks with one of its keys. It outlives the agent. Words
 * change one by one: a question that meets a change of keys is not answered.
 */
struct liveness {
	__u64 node;	   /* hash of the node's name */
	__u64 incarnation; /* of the agent that wrote it */
	__u64 renewed;	   /* boot clock in nanoseconds; 0: never */
	__u64 flags;	   /* enum liveness_flag */
	__u64 port;	   /* UDP, in network order; 0: nothing is answered */
	__u64 macs[8];	   /* this node's, in the six low bytes; 0: none */
	struct liveness_key keys[4];
};
