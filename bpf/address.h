/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses and tuples: conversion, comparison, reversal. Never touches packets or maps. */
#pragma once
#include <linux/in6.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

static __always_inline void address_from_v4(struct address *address, __be32 v4)
{
	address->half[0] = 0;
	address->half[1] = ((__u64)v4 << 32) | 0xffff0000ULL;
}

static __always_inline __be32 address_to_v4(const struct address *address)
{
	return (__be32)(address->half[1] >> 32);
}

static __always_inline void address_from_v6(struct address *address, const struct in6_addr *v6)
{
	const __be32 *word = v6->in6_u.u6_addr32;

	address->half[0] = (__u64)word[0] | ((__u64)word[1] << 32);
	address->half[1] = (__u64)word[2] | ((__u64)word[3] << 32);
}

static __always_inline void address_to_v6(const struct address *address, struct in6_addr *v6)
{
	__be32 *word = v6->in6_u.u6_addr32;

	word[0] = (__be32)address->half[0];
	word[1] = (__be32)(address->half[0] >> 32);
	word[2] = (__be32)address->half[1];
	word[3] = (__be32)(address->half[1] >> 32);
}

static __always_inline bool address_equal(const struct address *a, const struct address *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}

static __always_inline bool address_is_set(const struct address *a)
{
	return a->half[0] | a->half[1];
}

static __always_inline bool address_is_v4(const struct address *a)
{
	return a->half[0] == 0 && (__u32)a->half[1] == 0xffff0000U;
}

/* 0.0.0.0 or ::, which is nobody's. */
static __always_inline bool address_is_unspecified(const struct address *a)
{
	return a->half[0] == 0 && (a->half[1] == 0 || a->half[1] == 0xffff0000ULL);
}

/* Loopback, for which Linux takes the unspecified address as well: whoever asks there asks himself. */
static __always_inline bool address_is_own(const struct address *a)
{
	if (address_is_unspecified(a))
		return true;
	if (address_is_v4(a))
		return (address_to_v4(a) & 0xff) == 127;
	return a->half[0] == 0 && a->half[1] == 0x0100000000000000ULL;
}

/* The other direction. The hook is kept: `write` of a flow, reversed, is the partner's key. */
static __always_inline void tuple_reverse(const struct tuple *from, struct tuple *to)
{
	to->source = from->destination;
	to->destination = from->source;
	to->source_port = from->destination_port;
	to->destination_port = from->source_port;
	to->proto = from->proto;
	to->hook = from->hook;
	to->pad[0] = 0;
	to->pad[1] = 0;
}

static __always_inline bool tuple_equal(const struct tuple *a, const struct tuple *b)
{
	return address_equal(&a->source, &b->source) && address_equal(&a->destination, &b->destination) &&
	       a->source_port == b->source_port && a->destination_port == b->destination_port && a->proto == b->proto &&
	       a->hook == b->hook;
}

/* Is `a` the other direction of `b`, whatever their hooks? */
static __always_inline bool tuple_opposes(const struct tuple *a, const struct tuple *b)
{
	return address_equal(&a->source, &b->destination) && address_equal(&a->destination, &b->source) &&
	       a->source_port == b->destination_port && a->destination_port == b->source_port && a->proto == b->proto;
}
