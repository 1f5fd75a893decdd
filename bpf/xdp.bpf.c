/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The XDP program of uplinks: what comes from outside and goes to another node, and back. Everything else reaches tc as it came. */
#include "xdp.h"
#include "quick.h"
#include "xdp_lb.h"

/* A function of its own, so that the verifier sees it once and not behind every way out of the quick one. */
__noinline int decide_xdp(struct xdp_md *ctx, __u32 stranger)
{
	struct scratch *x = scratch_get();
	enum verdict verdict;

	if (!x)
		return XDP_PASS;
	parse(ctx, &x->packet, HOOK_UPLINK_INGRESS, ETH_HLEN);
	x->packet.stranger = stranger;
	verdict = xdp_forward(ctx, &x->packet);
	return finish(HOOK_XDP, verdict, x->packet.action);
}

SEC("xdp")
int xdp_uplink(struct xdp_md *ctx)
{
	int action = stage_quick(ctx, HOOK_XDP, ETH_HLEN);

	return action < QUICK_UNDECIDED ? action : decide_xdp(ctx, action == QUICK_STRANGER);
}

/* Lets everything through: the far end of a veth needs some XDP program to take redirected frames. */
SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
