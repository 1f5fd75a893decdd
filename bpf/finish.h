/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one place that knows what the kernel wants returned, and that counts. A packet that is not consumed goes on to whoever
 * is next: TC_ACT_OK would hide it from every other program on the device.
 */
#pragma once
#include "parse.h"
#include "record.h"

/* What a stage returns for the next one to decide. */
#define UNDECIDED VERDICT_MAX
/* What a stage returns that filled the scratch's opening. */
#define OPENS (VERDICT_MAX + 1)

/* Not a packet that was answered, or left to somebody else. */
static __always_inline bool is_drop(enum verdict verdict)
{
	return verdict >= DROP_NO_LOCAL_BACKEND && verdict != VERDICT_TIME_EXCEEDED && verdict != VERDICT_LIVENESS &&
	       verdict != VERDICT_OTHER_PROXY;
}

/* `action` is what a redirect helper returned, for the verdicts of packets that were redirected. */
static __always_inline int finish(enum hook hook, enum verdict verdict, int action)
{
	count_verdict(hook, verdict);
#if CTX_IS_XDP
	if (verdict == VERDICT_FORWARD)
		return action;
	return is_drop(verdict) ? XDP_DROP : XDP_PASS;
#else
	switch (verdict) {
	case VERDICT_NEXT:
	case VERDICT_PASS:
	case VERDICT_OTHER_PROXY:
		return TC_ACT_UNSPEC;
	case VERDICT_ICMP:
	case VERDICT_FORWARD:
	case VERDICT_REFUSE:
	case VERDICT_ECHO:
	case VERDICT_NEIGHBOUR:
	case VERDICT_TOO_BIG:
	case VERDICT_TIME_EXCEEDED:
	case VERDICT_LIVENESS:
		return action;
	default:
		return TC_ACT_SHOT;
	}
#endif
}
