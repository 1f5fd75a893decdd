/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The checksum of SCTP (RFC 9260 appendix A) by difference. CRC32c is linear: when a message of n bytes changes in its first four by d,
 * its checksum changes by d * x^(8n) modulo the polynomial, whatever the rest of it is. Polynomials are reflected: bit 31 is x^0.
 * Never touches packets.
 */
#pragma once
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define CRC32C_POLYNOMIAL 0x82f63b78U

/* x^(8 * k * 16^j), by j and k. */
static const __u32 crc32c_powers[4][16] = {
	{
		0x80000000, 0x00800000, 0x00008000, 0x00000080, 0x82f63b78, 0xfbc3faf9, 0x8b277743, 0x52a0c93f,
		0x6ea2d55c, 0x1c08b7d6, 0xf56e0ef4, 0x34019664, 0xa66805eb, 0x7a1f6b24, 0xe75d06aa, 0xc94ec098,
	},
	{
		0x80000000, 0x18b8ea18, 0x510ac59a, 0xb2dea967, 0xb82be955, 0x36c41f1c, 0x19b29a35, 0xc9e90b9e,
		0xb8fdb1e7, 0xe55ef1f3, 0x1fe0b5c3, 0xe0553f1e, 0x18e4a304, 0x2b830011, 0x56993a31, 0x0246e2e6,
	},
	{
		0x80000000, 0x88e56f72, 0x74c360a4, 0x631bb273, 0xe4172b16, 0x71892b1b, 0x835305c9, 0x196b1eae,
		0x0d65762a, 0xafc81338, 0xb5a50ab7, 0xf373c3ac, 0x5f60970f, 0xd46d3063, 0x3a5275ea, 0x02331c01,
	},
	{
		0x80000000, 0x35d73a62, 0x28461564, 0x43eefc9f, 0xbf455269, 0x5edcdeb9, 0x65059450, 0x4e6f41a4,
		0xe2ea32dc, 0xf5b95b32, 0x695a4c87, 0xf204502c, 0x9a4f01b6, 0x941a0916, 0x4303cb97, 0x4c3d3d65,
	},
};

/* By products with 0 and 1, so that the verifier walks one way round: of a mask that is 0 or all ones newer ones walk both. */
static __always_inline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 32; i++) {
		__u32 first = a >> 31, last = b & 1;

		asm volatile("" : "+r"(first), "+r"(last));
		product ^= b * first;
		a <<= 1;
		b = (b >> 1) ^ (last * CRC32C_POLYNOMIAL);
	}
	return product;
}

/* What the checksum of `length` bytes changes by, as a 32-bit word of the packet, when their first word changes by `diff`. A global
 * function, which the verifier walks once.
 */
__noinline int crc32c_difference(__u32 diff, __u32 length)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < 4; i++) {
		diff = crc32c_multiply(diff, crc32c_powers[i][length & 15]);
		length >>= 4;
	}
	return (int)diff;
}
