/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* SipHash-2-4 (Aumasson and Bernstein, 2012) of a liveness message, with the key from `liveness`. All state is in registers. */
#pragma once
#include "scratch.h"

#define SIPHASH_ROTATE(v, bits) (((v) << (bits)) | ((v) >> (64 - (bits))))

#define SIPHASH_ROUND()                                   \
	do {                                              \
		v0 += v1;                                 \
		v1 = SIPHASH_ROTATE(v1, 13) ^ v0;         \
		v0 = SIPHASH_ROTATE(v0, 32);              \
		v2 += v3;                                 \
		v3 = SIPHASH_ROTATE(v3, 16) ^ v2;         \
		v0 += v3;                                 \
		v3 = SIPHASH_ROTATE(v3, 21) ^ v0;         \
		v2 += v1;                                 \
		v1 = SIPHASH_ROTATE(v1, 17) ^ v2;         \
		v2 = SIPHASH_ROTATE(v2, 32);              \
	} while (0)

/* Puts the tag of the scratch's message, by the key at `index`, into the scratch. Returns 0, or 1 when there is no such key. A global
 * function, for the stack's sake.
 */
__noinline int liveness_tag(__u32 index)
{
	struct scratch *x = scratch_get();
	struct liveness *own = liveness_get();
	__u64 v0, v1, v2, v3, word;
	struct liveness_key *key;

	if (!x || !own || index >= LIVENESS_KEYS)
		return 1;
	key = &own->keys[index];
	v0 = key->half[0] ^ 0x736f6d6570736575ULL;
	v1 = key->half[1] ^ 0x646f72616e646f6dULL;
	v2 = key->half[0] ^ 0x6c7967656e657261ULL;
	v3 = key->half[1] ^ 0x7465646279746573ULL;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i <= LIVENESS_WORDS; i++) {
		/* At last the length, in the highest byte. */
		word = i < LIVENESS_WORDS ? x->hashed[i & (LIVENESS_WORDS - 1)] : (LIVENESS_WORDS * 8ULL) << 56;
		v3 ^= word;
		SIPHASH_ROUND();
		SIPHASH_ROUND();
		v0 ^= word;
	}
	v2 ^= 0xff;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < 4; i++)
		SIPHASH_ROUND();
	x->tag = v0 ^ v1 ^ v2 ^ v3;
	return 0;
}
