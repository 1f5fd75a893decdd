// Functions that call functions, each with a stack that the tests know; one is only called when the object is told so.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

const volatile __u8 deeper = 1;

static __always_inline int touch(struct __sk_buff *skb, volatile __u64 *words, int count)
{
	int i;

	for (i = 0; i < count; i++)
		words[i] = skb->len;
	return (int)words[count - 1];
}

__noinline int leaf(struct __sk_buff *skb)
{
	volatile __u64 words[5]; /* 40 bytes */

	return touch(skb, words, 5);
}

__noinline int middle(struct __sk_buff *skb)
{
	volatile __u64 words[12]; /* 96 bytes */

	return touch(skb, words, 12) + leaf(skb);
}

__noinline int aside(struct __sk_buff *skb)
{
	volatile __u64 words[14]; /* 112 bytes */

	return touch(skb, words, 14);
}

SEC("tc")
int entry(struct __sk_buff *skb)
{
	if (deeper)
		return middle(skb) + aside(skb);
	return aside(skb);
}

char _license[] SEC("license") = "GPL";
