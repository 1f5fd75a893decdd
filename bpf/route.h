/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a translated packet leaves when it does not go through the stack: asks the kernel's routing table, checks the size
 * before anything is rewritten, and redirects.
 */
#pragma once
#include "config.h"
#include "maps.h"
#include "flow.h"

#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

static __always_inline struct device *device_of(__u32 ifindex)
{
	return bpf_map_lookup_elem(&devices, &ifindex);
}

/* Whether a lookup told where to send. By BPF_FIB_LKUP_RET_UNSUPP_LWT only the device is known. */
static __always_inline bool route_found(long result)
{
	return result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH ||
	       result == BPF_FIB_LKUP_RET_UNSUPP_LWT;
}

/* Measures a packet by the MTU of the device that the route found leads to, as bpf_fib_lookup does by the route's. */
static __always_inline long route_measure(const struct pkt *p, struct bpf_fib_lookup *fib, long result)
{
	struct device *device;
	__u32 mtu;

	/* Below 5.12 the lookup measures whole packets by the device itself, and tells no MTU. */
	if (!route_found(result) && result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return result;
	device = device_of(fib->ifindex);
	mtu = device && device->mtu < 0xffff ? device->mtu : 0xffff;
	fib->mtu_result = (__u16)mtu;
	return p->segment > mtu ? BPF_FIB_LKUP_RET_FRAG_NEEDED : result;
}

/* A route with an encapsulation of its own (lwtunnel): a lookup refuses it without saying which device it leads to. Where all
 * such routes share one tunnel device, the agent knows it.
 */
static __always_inline long route_tunnel(const struct pkt *p, struct bpf_fib_lookup *fib)
{
	const struct settings *s = settings_get();

	if (CTX_IS_XDP || !s || !s->tunnel)
		return BPF_FIB_LKUP_RET_NOT_FWDED;
	fib->ifindex = s->tunnel;
	return route_measure(p, fib, BPF_FIB_LKUP_RET_UNSUPP_LWT);
}

/* Routes `to` as a packet that came in by `ifindex`. Returns a BPF_FIB_LKUP_RET_* value or a negative errno. */
static __always_inline long route_lookup(ctx_t *ctx, const struct pkt *p, const struct tuple *to, __u32 ifindex,
					 struct bpf_fib_lookup *fib)
{
	long result;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = ifindex;
	fib->l4_protocol = to->proto;
	fib->sport = to->source_port;
	fib->dport = to->destination_port;
	if (config_fib_mtu)
		fib->tot_len = p->segment > 0xffff ? 0xffff : (__u16)p->segment;
	if (p->v6) {
		fib->family = AF_INET6;
		address_to_v6(&to->source, (struct in6_addr *)fib->ipv6_src);
		address_to_v6(&to->destination, (struct in6_addr *)fib->ipv6_dst);
	} else {
		fib->family = AF_INET;
		fib->ipv4_src = address_to_v4(&to->source);
		fib->ipv4_dst = address_to_v4(&to->destination);
	}
	result = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
	if (result == BPF_FIB_LKUP_RET_UNSUPP_LWT)
		return route_tunnel(p, fib);
	return config_fib_mtu ? result : route_measure(p, fib, result);
}

/* The address that SNAT writes for packets that leave by `ifindex`. */
static __always_inline bool route_source(__u32 ifindex, bool v6, struct address *source)
{
	struct device *device = device_of(ifindex);

	if (!device)
		return false;
	*source = v6 ? device->source6 : device->source4;
	return address_is_set(source);
}

static __always_inline bool write_macs(ctx_t *ctx, const __u8 *destination, const __u8 *source)
{
	struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth));

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, source, ETH_ALEN);
	return true;
}

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5])) == 0;
}

static __always_inline bool swap_macs(ctx_t *ctx)
{
	struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth));
	__u8 mac[ETH_ALEN];

	if (!eth)
		return false;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return true;
}

#if !CTX_IS_XDP
/* Packets that we redirected meet our own egress program with this mark, which it clears: they are not looked at again. */
#define MARK_REDIRECTED 0x4d696c6cU

/* By the kernel's neighbour code, which so learns that the entry is in use, and asks the wire when it has aged: the MAC of a machine
 * that was replaced is noticed. A route of IPv4 may have a next hop of IPv6 (RFC 8950).
 */
static __always_inline enum verdict redirect_to_neighbour(ctx_t *ctx, struct pkt *p, const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh *next = &scratch_of_packet(p)->neighbour;

	__builtin_memset(next, 0, sizeof(*next));
	next->nh_family = fib->family;
	if (fib->family == AF_INET6)
		__builtin_memcpy(next->ipv6_nh, fib->ipv6_dst, sizeof(next->ipv6_nh));
	else
		next->ipv4_nh = fib->ipv4_dst;
	ctx_set_mark(ctx, MARK_REDIRECTED);
	p->action = (int)bpf_redirect_neigh(fib->ifindex, next, sizeof(*next), 0);
	return VERDICT_FORWARD;
}

/* The kernel routes again, within the device, and finds the encapsulation: told a next hop, it would send without one. */
static __always_inline enum verdict redirect_to_tunnel(ctx_t *ctx, struct pkt *p, const struct bpf_fib_lookup *fib)
{
	ctx_set_mark(ctx, MARK_REDIRECTED);
	p->action = (int)bpf_redirect_neigh(fib->ifindex, NULL, 0, 0);
	return VERDICT_FORWARD;
}

/* Sends the packet, already rewritten, by the route found before. */
static __always_inline enum verdict redirect_by_route(ctx_t *ctx, struct pkt *p, const struct bpf_fib_lookup *fib,
						      long result, const __u32 link)
{
	if (!link) {
		/* From a device without a link header: every redirect takes off, or writes, as much. */
		if (bpf_skb_change_head(ctx, ETH_HLEN, 0))
			return DROP_REWRITE;
		struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth));

		if (!eth)
			return DROP_REWRITE;
		eth->h_proto = p->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	}
	if (result == BPF_FIB_LKUP_RET_UNSUPP_LWT)
		return redirect_to_tunnel(ctx, p, fib);
	/* The neighbour code writes them again; a test run shows these. */
	if (result == BPF_FIB_LKUP_RET_SUCCESS && !write_macs(ctx, fib->dmac, fib->smac))
		return DROP_REWRITE;
	return redirect_to_neighbour(ctx, p, fib);
}

/* Sends the packet back out of the device that it came from. */
static __always_inline enum verdict redirect_back(ctx_t *ctx, struct pkt *p, enum verdict verdict, const __u32 link)
{
	if (link && !swap_macs(ctx))
		return DROP_REWRITE;
	ctx_set_mark(ctx, MARK_REDIRECTED);
	p->action = (int)bpf_redirect(ctx_ifindex(ctx), 0);
	return verdict;
}

/* Lets the packet come in by `ifindex` as if it were for this node. */
static __always_inline enum verdict redirect_in(ctx_t *ctx, struct pkt *p, __u32 ifindex, enum verdict verdict,
						const __u32 link)
{
	if (link) {
		struct device *device = device_of(ifindex);
		__u8 mac[ETH_ALEN];

		if (!device)
			return DROP_NO_ROUTE;
		__builtin_memcpy(mac, device->mac, ETH_ALEN);
		if (!write_macs(ctx, mac, mac))
			return DROP_REWRITE;
	}
	p->action = (int)bpf_redirect(ifindex, BPF_F_INGRESS);
	return verdict;
}

/* Lets a packet that was about to go out to a pod come in as if it were from there, past the programs of the pod's device where that is
 * a bridge's port.
 */
static __always_inline enum verdict redirect_from_pod(ctx_t *ctx, struct pkt *p, enum verdict verdict)
{
	struct device *device = device_of(ctx_ifindex(ctx));
	__u8 mac[ETH_ALEN];

	if (!device)
		return DROP_NO_ROUTE;
	__builtin_memcpy(mac, device->accepts, ETH_ALEN);
	if (!write_macs(ctx, mac, mac))
		return DROP_REWRITE;
	p->action = (int)bpf_redirect(device->master ? device->master : ctx_ifindex(ctx), BPF_F_INGRESS);
	return verdict;
}
#endif
