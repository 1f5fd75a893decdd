/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tc programs. Uplinks and pod devices each have one for ingress and one for egress; `_l3` are for devices without an
 * Ethernet header. docs/packet-paths.md says what happens at which hook, and why there.
 */
#include "skb.h"
#include "lb.h"

/* Frames of a VLAN device above us: its own program sees them without the tag. */
static __always_inline bool is_foreign(ctx_t *ctx)
{
	return ctx->vlan_present;
}

/* We sent it by a redirect: its way is decided, and it was counted. The mark goes, as it would tell others of us; a program
 * of ours that runs behind at the same hook, while one build takes over from another, is told by the packet's control block,
 * which no protocol layer leaves as it is.
 */
static __always_inline bool was_redirected(ctx_t *ctx)
{
	if (ctx_mark(ctx) != MARK_REDIRECTED)
		return ctx->cb[0] == MARK_REDIRECTED;
	ctx_set_mark(ctx, 0);
	ctx->cb[0] = MARK_REDIRECTED;
	return true;
}

static __always_inline int uplink_ingress(ctx_t *ctx, const __u32 link)
{
	struct pkt p;

	if (is_foreign(ctx))
		return TC_ACT_UNSPEC;
	parse(ctx, &p, link);
	return finish(&p, HOOK_UPLINK_INGRESS, lb_forward(ctx, &p, HOOK_UPLINK_INGRESS, link));
}

static __always_inline int uplink_egress(ctx_t *ctx, const __u32 link)
{
	struct pkt p;

	if (was_redirected(ctx) || is_foreign(ctx))
		return TC_ACT_UNSPEC;
	parse(ctx, &p, link);
	/* A packet that was forwarded has a device that it came from; a local one, or one of a masqueraded pod, may open. */
	if (!ctx->ingress_ifindex)
		return finish(&p, HOOK_UPLINK_EGRESS, lb_forward(ctx, &p, HOOK_UPLINK_EGRESS, link));
	enum verdict verdict = lb_answer(ctx, &p, HOOK_UPLINK_EGRESS, link);

	if (verdict == VERDICT_NEXT && p.kind == PACKET_FLOW) {
		enum verdict changed = stage_port_change(ctx, &p, link);

		if (changed != UNDECIDED)
			verdict = changed;
	}
	return finish(&p, HOOK_UPLINK_EGRESS, verdict);
}

static __always_inline int pod_ingress(ctx_t *ctx, const __u32 link)
{
	struct pkt p;

	parse(ctx, &p, link);
	return finish(&p, HOOK_POD_INGRESS, lb_forward(ctx, &p, HOOK_POD_INGRESS, link));
}

static __always_inline int pod_egress(ctx_t *ctx, const __u32 link)
{
	struct pkt p;

	if (was_redirected(ctx))
		return TC_ACT_UNSPEC;
	parse(ctx, &p, link);
	return finish(&p, HOOK_POD_EGRESS, lb_answer(ctx, &p, HOOK_POD_EGRESS, link));
}

SEC("tc")
int tc_uplink_ingress(struct __sk_buff *ctx)
{
	return uplink_ingress(ctx, ETH_HLEN);
}

SEC("tc")
int tc_uplink_egress(struct __sk_buff *ctx)
{
	return uplink_egress(ctx, ETH_HLEN);
}

SEC("tc")
int tc_uplink_in_l3(struct __sk_buff *ctx)
{
	return uplink_ingress(ctx, 0);
}

SEC("tc")
int tc_uplink_out_l3(struct __sk_buff *ctx)
{
	return uplink_egress(ctx, 0);
}

SEC("tc")
int tc_pod_ingress(struct __sk_buff *ctx)
{
	return pod_ingress(ctx, ETH_HLEN);
}

SEC("tc")
int tc_pod_egress(struct __sk_buff *ctx)
{
	return pod_egress(ctx, ETH_HLEN);
}

/* Run by the controller only: sends the frame given out of the device given, for gratuitous announcements. */
SEC("tc")
int tc_send(struct __sk_buff *ctx)
{
	return (int)bpf_clone_redirect(ctx, ctx->ifindex, 0);
}

struct clocks {
	__u64 jiffies;
	__u64 boot_ns;
};

/* Run by the controller only: writes jiffies and the boot clock over the packet's first 16 bytes. */
SEC("tc")
int tc_clocks(struct __sk_buff *ctx)
{
	struct clocks clocks = { .jiffies = bpf_jiffies64(), .boot_ns = bpf_ktime_get_boot_ns() };

	return (int)bpf_skb_store_bytes(ctx, 0, &clocks, sizeof(clocks), 0);
}

/* What an empty program costs: the benchmark's zero. */
SEC("tc")
int tc_empty(struct __sk_buff *ctx)
{
	(void)ctx;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
