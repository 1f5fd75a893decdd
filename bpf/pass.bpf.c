/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Lets everything through. A veth takes frames that are redirected to it only when its far end runs some XDP program: the lab
 * puts this one on the LAN's side.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
