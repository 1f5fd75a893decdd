/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Read-only configuration: the controller sets it before the object is loaded, and the verifier removes what is off. */
#pragma once
#include "announce_types.h"
#include "types.h"

/* bpf_l4_csum_replace knows BPF_F_IPV6 (Linux 6.16 and stable kernels of 2025). */
const volatile __u8 config_csum_ipv6 = 0;
/* bpf_set_retval exists (5.18); without it connect() is pointed at a closed loopback port and sendmsg() gets EPERM. */
const volatile __u8 config_set_retval = 1;
/* bpf_get_netns_cookie is callable from the socket hooks (5.7). */
const volatile __u8 config_netns_cookie = 1;

/* bpf_fib_lookup tells the route's MTU (5.12); without it the output device's is taken. */
const volatile __u8 config_fib_mtu = 1;

/* 0: a packet changes nothing that another one, or the controller, would see: no entry, no count, no mark. */
const volatile __u8 config_records = 1;

/* BTF keeps only types that something uses: this keeps the enums whose names and values user space shares. */
struct shared_enums {
	enum hook hook;
	enum verdict verdict;
	enum frontend_kind frontend_kind;
	enum window window;
	enum empty_window empty_window;
	enum backend_state backend_state;
	enum flow_path flow_path;
	enum flow_state flow_state;
	enum address_role address_role;
	enum device_flag device_flag;
	enum next_hop_flag next_hop_flag;
	enum sockets_mode sockets_mode;
	enum peer_kind peer_kind;
	enum near_flag near_flag;
	enum range_kind range_kind;
	enum setting_flag setting_flag;
	enum row_flag row_flag;
	enum client_kind client_kind;
	enum backend_word backend_word;
	enum liveness_limit liveness_limit;
	enum liveness_kind liveness_kind;
	enum liveness_flag liveness_flag;
};

const volatile struct shared_enums shared_enums = {};
