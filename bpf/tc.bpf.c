/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tc programs. Uplinks and pod devices each have one for ingress and one for egress; `_l3` are for devices without an
 * Ethernet header. docs/packet-paths.md says what happens at which hook, and why there.
 */
#include "skb.h"
#include "lb.h"
#include "quick.h"

#define VLAN_ID 0xfff

/* Frames of a VLAN device above us: its own program sees them without the tag. What comes in with a tag of VLAN 0 is a priority and
 * nothing else (IEEE 802.1Q), which is taken off, as what we redirect would leave with it.
 */
static __always_inline bool is_foreign_in(ctx_t *ctx)
{
	if (!ctx->vlan_present)
		return false;
	if ((ctx->vlan_tci & VLAN_ID) || (ctx->protocol != bpf_htons(ETH_P_IP) && ctx->protocol != bpf_htons(ETH_P_IPV6) &&
					  ctx->protocol != bpf_htons(ETH_P_ARP)))
		return true;
	/* Under it may be another tag, which takes its place. */
	return bpf_skb_vlan_pop(ctx) || ctx->vlan_present;
}

static __always_inline bool is_foreign_out(ctx_t *ctx)
{
	return ctx->vlan_present;
}

/* We sent it by a redirect: its way is decided, and it was counted. The mark goes, as it would tell others of us; a program
 * of ours that runs behind at the same hook, while one build takes over from another, is told by the packet's control block,
 * which no protocol layer leaves as it is.
 */
static __always_inline bool was_redirected(ctx_t *ctx)
{
	const struct settings *s;

	if (ctx_mark(ctx) != MARK_REDIRECTED) {
		s = settings_get();
		return s && s->handover && ctx->cb[0] == MARK_REDIRECTED;
	}
	ctx_set_mark(ctx, 0);
	ctx->cb[0] = MARK_REDIRECTED;
	return true;
}

/* Global functions, for the stack's sake. */
__noinline int parse_frame(struct __sk_buff *ctx, __u32 hook)
{
	struct scratch *x = scratch_get();

	if (x)
		parse(ctx, &x->packet, hook, ETH_HLEN);
	return 0;
}

__noinline int parse_l3(struct __sk_buff *ctx, __u32 hook)
{
	struct scratch *x = scratch_get();

	if (x)
		parse(ctx, &x->packet, hook, 0);
	return 0;
}

/* All that is not quick. */
static __always_inline int decide(ctx_t *ctx, const enum hook hook, __u32 stranger, const __u32 link)
{
	struct scratch *x = scratch_get();
	enum verdict verdict;
	struct pkt *p;

	if (!x)
		return TC_ACT_UNSPEC;
	p = &x->packet;
	if (link)
		parse_frame(ctx, hook);
	else
		parse_l3(ctx, hook);
	p->stranger = stranger;
	if (hook == HOOK_UPLINK_EGRESS)
		verdict = lb_uplink_egress(ctx, p, link);
	else if (hook == HOOK_POD_EGRESS)
		verdict = lb_pod_egress(ctx, p, link);
	else
		verdict = lb_forward(ctx, p, hook, link);
	if (hook != HOOK_POD_EGRESS && verdict == OPENS)
		verdict = stage_open(ctx, hook, link);
	if (verdict == UNDECIDED)
		verdict = VERDICT_NEXT;
	if (verdict == VERDICT_NEXT && p->piece == PIECE_FIRST)
		fragment_forget(p);
	verdict = lb_reply(ctx, x, verdict, hook, link);
	if (verdict == VERDICT_REFUSE || is_drop(verdict))
		count_refused(hook, verdict);
	return finish(hook, verdict, p->action);
}

/* Functions of their own, so that the verifier sees each once and not behind every way out of the quick one. */
__noinline int decide_uplink_ingress(struct __sk_buff *ctx, __u32 stranger)
{
	return decide(ctx, HOOK_UPLINK_INGRESS, stranger, ETH_HLEN);
}

__noinline int decide_uplink_in_l3(struct __sk_buff *ctx, __u32 stranger)
{
	return decide(ctx, HOOK_UPLINK_INGRESS, stranger, 0);
}

__noinline int decide_uplink_egress(struct __sk_buff *ctx, __u32 stranger)
{
	return decide(ctx, HOOK_UPLINK_EGRESS, stranger, ETH_HLEN);
}

__noinline int decide_uplink_out_l3(struct __sk_buff *ctx, __u32 stranger)
{
	return decide(ctx, HOOK_UPLINK_EGRESS, stranger, 0);
}

__noinline int decide_pod_ingress(struct __sk_buff *ctx, __u32 stranger)
{
	return decide(ctx, HOOK_POD_INGRESS, stranger, ETH_HLEN);
}

__noinline int decide_pod_egress(struct __sk_buff *ctx, __u32 stranger)
{
	return decide(ctx, HOOK_POD_EGRESS, stranger, ETH_HLEN);
}

SEC("tc")
int tc_uplink_ingress(struct __sk_buff *ctx)
{
	int action;

	if (is_foreign_in(ctx))
		return TC_ACT_UNSPEC;
	action = stage_quick(ctx, HOOK_UPLINK_INGRESS, ETH_HLEN);
	return action < QUICK_UNDECIDED ? action : decide_uplink_ingress(ctx, action == QUICK_STRANGER);
}

SEC("tc")
int tc_uplink_egress(struct __sk_buff *ctx)
{
	int action;

	if (was_redirected(ctx) || is_foreign_out(ctx))
		return TC_ACT_UNSPEC;
	action = stage_quick(ctx, HOOK_UPLINK_EGRESS, ETH_HLEN);
	return action < QUICK_UNDECIDED ? action : decide_uplink_egress(ctx, action == QUICK_STRANGER);
}

SEC("tc")
int tc_uplink_in_l3(struct __sk_buff *ctx)
{
	int action;

	if (is_foreign_in(ctx))
		return TC_ACT_UNSPEC;
	action = stage_quick(ctx, HOOK_UPLINK_INGRESS, 0);
	return action < QUICK_UNDECIDED ? action : decide_uplink_in_l3(ctx, action == QUICK_STRANGER);
}

SEC("tc")
int tc_uplink_out_l3(struct __sk_buff *ctx)
{
	int action;

	if (was_redirected(ctx) || is_foreign_out(ctx))
		return TC_ACT_UNSPEC;
	action = stage_quick(ctx, HOOK_UPLINK_EGRESS, 0);
	return action < QUICK_UNDECIDED ? action : decide_uplink_out_l3(ctx, action == QUICK_STRANGER);
}

SEC("tc")
int tc_pod_ingress(struct __sk_buff *ctx)
{
	int action;

	action = stage_quick(ctx, HOOK_POD_INGRESS, ETH_HLEN);
	return action < QUICK_UNDECIDED ? action : decide_pod_ingress(ctx, action == QUICK_STRANGER);
}

SEC("tc")
int tc_pod_egress(struct __sk_buff *ctx)
{
	int action;

	if (was_redirected(ctx))
		return TC_ACT_UNSPEC;
	action = stage_quick(ctx, HOOK_POD_EGRESS, ETH_HLEN);
	return action < QUICK_UNDECIDED ? action : decide_pod_egress(ctx, action == QUICK_STRANGER);
}

/* Run by the controller only: sends the frame given out of the device given, for gratuitous announcements. */
SEC("tc")
int tc_send(struct __sk_buff *ctx)
{
	return (int)bpf_clone_redirect(ctx, ctx->ifindex, 0);
}

/* So many rows are renewed by one run: a bit of its result for each. */
#define RENEWALS 32

struct renewal_times {
	__u64 renewed;
	__u64 stale;
	__u64 silent;
};

/* Run by the controller only: the packet is times, and keys of `announced` behind them. Rows that are there get the times in their place, so
 * that nothing is lost of what is heard meanwhile. Returns a bit for each key that has a row, the first one's lowest.
 */
SEC("tc")
int tc_renew(struct __sk_buff *ctx)
{
	struct renewal_times times;
	struct announced_key key;
	struct announcement *row;
	__u32 found = 0;

	if (bpf_skb_load_bytes(ctx, 0, &times, sizeof(times)))
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < RENEWALS; i++) {
		if (bpf_skb_load_bytes(ctx, sizeof(times) + i * sizeof(key), &key, sizeof(key)))
			break;
		row = bpf_map_lookup_elem(&announced, &key);
		if (!row)
			continue;
		row->renewed = times.renewed;
		row->stale = times.stale;
		row->silent = times.silent;
		found |= 1U << i;
	}
	return (int)found;
}

struct clocks {
	__u64 jiffies;
	__u64 monotonic_ns;
};

/* Run by the controller only: writes jiffies and the clock that stops when they do over the packet's first 16 bytes. */
SEC("tc")
int tc_clocks(struct __sk_buff *ctx)
{
	struct clocks clocks = { .jiffies = bpf_jiffies64(), .monotonic_ns = bpf_ktime_get_ns() };

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
