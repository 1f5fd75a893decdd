/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The XDP program of uplinks: the decision core for what comes from outside and goes to another node. Everything else
 * reaches tc as it came.
 */
#include "xdp.h"
#include "lb.h"

SEC("xdp")
int xdp_uplink(struct xdp_md *ctx)
{
	struct pkt p;

	parse(ctx, &p, ETH_HLEN);
	return finish(&p, HOOK_XDP, lb_forward(ctx, &p, HOOK_XDP, ETH_HLEN));
}

/* Lets everything through: the far end of a veth needs some XDP program to take redirected frames. */
SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
