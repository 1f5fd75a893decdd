/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Of a packet whose tuple a flow has: does it belong to that flow, or does it begin another one? Shared by tc and XDP. */
#pragma once
#include "flow_life.h"

/* A UDP request goes on by a living backend. A SYN, or SCTP's INIT, begins another connection when this one ended; when its backend was retired only
 * after some silence, as a single forged SYN would move a connection that lives.
 */
static __always_inline bool opens_anew(const struct pkt *p, const struct flow *f, enum flow_table table)
{
	const struct settings *s = settings_get();

	if (f->answer || f->path == PATH_PORT_CHANGE)
		return false;
	if (p->tuple.proto == IPPROTO_UDP)
		return !backend_alive(f->backend, f->generation);
	if (!opens_handshake(p))
		return false;
	if (flow_ended(f->state))
		return true;
	if (backend_alive(f->backend, f->generation))
		return false;
	return (table == TABLE_OPENINGS && !(f->state & STATE_ANSWERED)) || !s || jiffies_now() - f->seen >= s->hz;
}
