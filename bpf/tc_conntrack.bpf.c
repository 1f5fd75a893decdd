/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tc programs for kernels that let them ask conntrack (bpf_skb_ct_lookup, Linux 5.18): otherwise the same. conntrack.h says why
 * it is another object.
 */
#define ASKS_CONNTRACK
#include "tc.bpf.c"
