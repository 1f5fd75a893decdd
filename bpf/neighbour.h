/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861): answers requests that are broadcast or to us, never gratuitous ones.
 * At tc ingress of uplinks for announced addresses, which it gives up when another MAC claims one while the controller has not
 * renewed it; who else claims or probes one is remembered. At that of pods on a bridge for addresses of retired backends that nobody
 * else answers for.
 */
#pragma once
#include "refuse.h"

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp_packet {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_address[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_address[4];
} __attribute__((packed));

struct neighbour_message {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags;
	struct in6_addr target;
	__u8 option_type;
	__u8 option_length;
	__u8 mac[ETH_ALEN];
};

static __always_inline struct announcement *announcement_of(ctx_t *ctx, const struct address *address)
{
	struct announced_key key = { .address = *address, .ifindex = ctx_ifindex(ctx) };

	return bpf_map_lookup_elem(&announced, &key);
}

static __always_inline bool announcement_answers(const struct announcement *a)
{
	return bpf_ktime_get_boot_ns() < a->silent;
}

#define MAC_MASK 0xffffffffffffULL

static __always_inline __u64 mac_word(const __u8 *mac)
{
	__u64 word = 0;

	__builtin_memcpy(&word, mac, ETH_ALEN);
	return word;
}

/* Is the MAC one host's, and none of this node's? Our own frames come back by bridges that reflect, and between two devices of ours in
 * one network.
 */
static __always_inline bool mac_is_foreign(__u64 mac, const struct device *device)
{
	const struct liveness *own = liveness_get();

	if (!mac || (mac & 1) || mac == mac_word(device->mac))
		return false;
	if (!own)
		return true;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < LIVENESS_MACS; i++) {
		if (own->macs[i] == mac)
			return false;
	}
	return true;
}

enum heard {
	HEARD_CLAIM, /* the address is said to be its */
	HEARD_PROBE, /* it asks whether anybody has the address that it wants for itself */
};

/* A frame with this MAC is about `address`. A row that nobody renews yields to a claim. */
static __always_inline void announcement_heard(ctx_t *ctx, const struct address *address, __u64 mac,
					       const struct device *device, enum heard what)
{
	struct announcement *a = announcement_of(ctx, address);
	__u64 now, who;

	if (!a || !mac_is_foreign(mac, device))
		return;
	now = bpf_ktime_get_boot_ns();
	who = mac | (now >> 20) << 56;
	if (what == HEARD_PROBE) {
		RECORD(a->prober, who);
		RECORD(a->probed, now);
		return;
	}
	if ((a->claimant[0] & MAC_MASK) != mac) {
		RECORD(a->claimant[1], a->claimant[0]);
		RECORD(a->claimed[1], a->claimed[0]);
	}
	RECORD(a->claimant[0], who);
	RECORD(a->claimed[0], now);
	if (now < a->stale || now >= a->silent)
		return;
	RECORD(a->conflict, now);
	RECORD(a->silent, 0);
}

#define ASKED_AGAIN_MS 300	  /* neighbours are asked once a second: this is no second copy of one question */
#define ASKED_AGAIN_MAX_MS 4000 /* and this no new one */

/* A pod on a bridge asks for the address of a retired backend, once more and in vain: its connected sockets could send nothing, and
 * nothing of theirs could be sent on. Who has the address now has answered the first time. Each pod's question is its own.
 */
static __always_inline bool retired_is_nobodys(ctx_t *ctx, const struct address *target)
{
	struct frontend_key key = { .address = *target, .proto = IPPROTO_UDP };
	struct announced_key question = { .address = *target, .ifindex = ctx_ifindex(ctx) };
	const struct settings *s = settings_get();
	__u64 now = bpf_jiffies64(), passed, *asked;
	bool again;

	if (!s || !bpf_map_lookup_elem(&retired, &key))
		return false;
	asked = bpf_map_lookup_elem(&neighbour_questions, &question);
	if (!asked) {
		RECORD_UPDATE(&neighbour_questions, &question, &now, BPF_ANY);
		return false;
	}
	passed = now - *asked;
	again = passed >= ASKED_AGAIN_MS * s->hz / 1000 && passed < ASKED_AGAIN_MAX_MS * s->hz / 1000;
	/* Once answered, its next question is a first one. */
	RECORD(*asked, again ? 0 : now);
	return again;
}

/* Do we answer for `target` here? `asker` is unspecified when it asks whether anybody has the address that it wants for itself. */
static __always_inline bool answers_for(ctx_t *ctx, const struct device *device, const struct address *asker,
					const struct address *target, __u32 hook)
{
	struct announcement *a;

	if (hook == HOOK_POD_INGRESS)
		return device->master && !address_is_unspecified(asker) && retired_is_nobodys(ctx, target);
	a = announcement_of(ctx, target);
	return a && announcement_answers(a);
}

/* Global for the verifier's sake, as the replies of refuse.h. */
__noinline int answer_arp(ctx_t *ctx, __u32 hook)
{
	struct scratch *x = scratch_get();
	struct device *device = device_of(ctx_ifindex(ctx));
	struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth) + sizeof(struct arp_packet));
	struct address sender, target;
	struct arp_packet *arp;
	__u8 mac[ETH_ALEN];
	__be32 raw;

	if (!x || !eth || !device)
		return VERDICT_NEXT;
	arp = (struct arp_packet *)(eth + 1);
	if (arp->hardware != bpf_htons(ARP_HARDWARE_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_length != ETH_ALEN || arp->protocol_length != 4)
		return VERDICT_NEXT;
	__builtin_memcpy(&raw, arp->sender_address, 4);
	address_from_v4(&sender, raw);
	__builtin_memcpy(&raw, arp->target_address, 4);
	address_from_v4(&target, raw);
	if (hook != HOOK_POD_INGRESS && !address_is_unspecified(&sender))
		announcement_heard(ctx, &sender, mac_word(arp->sender_mac), device, HEARD_CLAIM);
	else if (hook != HOOK_POD_INGRESS && arp->operation == bpf_htons(ARP_REQUEST))
		announcement_heard(ctx, &target, mac_word(arp->sender_mac), device, HEARD_PROBE);
	if (arp->operation != bpf_htons(ARP_REQUEST) || address_equal(&sender, &target))
		return VERDICT_NEXT;
	if (!(eth->h_dest[0] & 1) && !mac_equal(eth->h_dest, device->mac))
		return VERDICT_NEXT;
	if (!answers_for(ctx, device, &sender, &target, hook))
		return VERDICT_NEXT;

	__builtin_memcpy(mac, hook == HOOK_POD_INGRESS ? device->accepts : device->mac, ETH_ALEN);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	__builtin_memcpy(arp->sender_mac, mac, ETH_ALEN);
	__builtin_memcpy(&raw, arp->target_address, 4);
	__builtin_memcpy(arp->target_address, arp->sender_address, 4);
	__builtin_memcpy(arp->sender_address, &raw, 4);
	arp->operation = bpf_htons(ARP_REPLY);
	ctx_set_mark(ctx, MARK_REDIRECTED);
	x->packet.action = (int)bpf_redirect(ctx_ifindex(ctx), 0);
	return VERDICT_NEIGHBOUR;
}

/* The MAC that a message of neighbour discovery at `l4` tells by an option of this type, else the one that it came from. */
static __always_inline __u64 neighbour_mac(ctx_t *ctx, __u32 l4, __u8 option)
{
	struct neighbour_message *message = ctx_at(ctx, l4, sizeof(*message));
	struct ethhdr *eth;

	if (message && message->option_type == option && message->option_length == 1)
		return mac_word(message->mac);
	eth = ctx_at(ctx, 0, sizeof(*eth));
	return eth ? mac_word(eth->h_source) : 0;
}

#define OPTION_SOURCE_MAC 1
#define OPTION_TARGET_MAC 2

/* A router would have lowered the hop limit: what has it whole is from the link (RFC 4861 section 7.1). */
static __always_inline void neighbour_advertised(ctx_t *ctx, struct pkt *p)
{
	struct device *device = device_of(ctx_ifindex(ctx));
	struct neighbour_message *message = ctx_at(ctx, p->l4, 24);
	struct address target;

	if (!device || !message || p->ttl != 255 || message->code)
		return;
	address_from_v6(&target, &message->target);
	announcement_heard(ctx, &target, neighbour_mac(ctx, p->l4, OPTION_TARGET_MAC), device, HEARD_CLAIM);
}

/* Who asks from an address claims that one; who asks from none wants the one that is asked for. A global function, for the stack's sake. */
__noinline int neighbour_solicited(ctx_t *ctx)
{
	struct device *device = device_of(ctx_ifindex(ctx));
	struct scratch *x = scratch_get();
	struct neighbour_message *message;
	struct pkt *p;
	__u64 mac;

	if (!x || !device)
		return 0;
	p = &x->packet;
	message = ctx_at(ctx, p->l4, 24);
	if (!message || p->ttl != 255 || message->code)
		return 0;
	address_from_v6(&x->reply.source, &message->target);
	mac = neighbour_mac(ctx, p->l4, OPTION_SOURCE_MAC);
	if (address_is_set(&p->tuple.source))
		announcement_heard(ctx, &p->tuple.source, mac, device, HEARD_CLAIM);
	else
		announcement_heard(ctx, &x->reply.source, mac, device, HEARD_PROBE);
	return 0;
}

__noinline int answer_neighbour(ctx_t *ctx, __u32 hook, __u32 link)
{
	struct scratch *x = scratch_get();
	struct device *device = device_of(ctx_ifindex(ctx));
	struct neighbour_message *message;
	struct address all_nodes = { .half = { 0x00000000000002ffULL, 0x0100000000000000ULL } };
	struct address target;
	bool solicited;
	__u32 length = sizeof(struct ipv6hdr) + sizeof(*message);
	__u8 mac[ETH_ALEN];
	struct ipv6hdr *ip;
	struct ethhdr *eth;
	struct tuple *back;
	struct pkt *p;
	__u64 sum;

	if (!x)
		return VERDICT_NEXT;
	p = &x->packet;
	back = &x->reply;
	solicited = address_is_set(&p->tuple.source);
	message = ctx_at(ctx, p->l4, 24);
	if (!link || !device || !message || p->ttl != 255 || message->code || p->l4 != p->l3 + sizeof(*ip))
		return VERDICT_NEXT;
	address_from_v6(&target, &message->target);
	if (!answers_for(ctx, device, &p->tuple.source, &target, hook))
		return VERDICT_NEXT;
	__builtin_memcpy(mac, hook == HOOK_POD_INGRESS ? device->accepts : device->mac, ETH_ALEN);
	if (bpf_skb_change_tail(ctx, p->l3 + length, 0))
		return DROP_REWRITE;
	eth = ctx_at(ctx, 0, sizeof(*eth) + sizeof(*ip) + sizeof(*message));
	if (!eth)
		return DROP_REWRITE;
	ip = (struct ipv6hdr *)(eth + 1);
	message = (struct neighbour_message *)(ip + 1);
	if (solicited) {
		__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	} else {
		const __u8 group[ETH_ALEN] = { 0x33, 0x33, 0, 0, 0, 1 };

		__builtin_memcpy(eth->h_dest, group, ETH_ALEN);
	}
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	back->source = target;
	back->destination = solicited ? p->tuple.source : all_nodes;
	ip->payload_len = bpf_htons(sizeof(*message));
	ip->hop_limit = 255;
	address_to_v6(&back->source, &ip->saddr);
	address_to_v6(&back->destination, &ip->daddr);
	message->type = 136;
	message->code = 0;
	message->checksum = 0;
	message->flags = bpf_htonl(solicited ? 0x60000000 : 0x20000000); /* solicited, override */
	message->option_type = 2;
	message->option_length = 1;
	__builtin_memcpy(message->mac, mac, ETH_ALEN);
	sum = pseudo_sum(back, IPPROTO_ICMPV6, sizeof(*message));
#pragma clang loop unroll(disable)
	for (int i = 0; i < 16; i++)
		sum += ((__u16 *)message)[i];
	message->checksum = (__u16)~sum_fold16(sum_fold32(sum));
	ctx_set_mark(ctx, MARK_REDIRECTED);
	p->action = (int)bpf_redirect(ctx_ifindex(ctx), 0);
	return VERDICT_NEIGHBOUR;
}
