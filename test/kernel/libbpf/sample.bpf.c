// Programs and maps of every kind that the binding's tests need.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

typedef __u16 port_number;

enum colour { RED = 1, GREEN = 7, BLUE = -3 };

struct key {
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 rest;
};

struct inner {
	__u8 bytes[16];
};

struct value {
	__u64 counter;
	struct inner inner;
	port_number port;
	__u16 low : 4;
	__u16 high : 12;
	enum colour colour;
};

struct event {
	__u32 length;
	__u32 mark;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, struct value);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct inner);
} words SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

const volatile __u32 answer = 1;
const volatile __u64 wide = 2;
const volatile __u8 name[8] = {};

/* Events are in no map's type: this keeps the struct in BTF. */
struct event *event_type SEC(".data.types") = 0;

SEC("tc")
int first(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct inner *word = bpf_map_lookup_elem(&words, &zero);

	if (word)
		__sync_fetch_and_add((__u64 *)word, 1);
	return answer == 42 && wide == 0x1122334455667788ULL && name[7] == 9 ? 7 : -1;
}

SEC("tc")
int second(struct __sk_buff *skb)
{
	skb->mark = skb->mark + 1;
	return -1;
}

SEC("tc")
int emit(struct __sk_buff *skb)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return 1;
	event->length = skb->len;
	event->mark = skb->mark;
	if (skb->mark == 13)
		bpf_ringbuf_discard(event, 0);
	else
		bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("xdp")
int pass(struct xdp_md *xdp)
{
	return XDP_PASS;
}

SEC("xdp")
int pass_too(struct xdp_md *xdp)
{
	return xdp->ingress_ifindex == 0xffffff ? XDP_DROP : XDP_PASS;
}

SEC("cgroup/connect4")
int allow(struct bpf_sock_addr *address)
{
	return 1;
}

SEC("cgroup/connect4")
int refuse_port_1(struct bpf_sock_addr *address)
{
	return address->user_port != bpf_htons(1);
}

/* Reads behind the packet: never loads. */
SEC("?tc")
int broken(struct __sk_buff *skb)
{
	__u32 i, sum = 0;
	__u8 *data = (__u8 *)(long)skb->data;

	for (i = 0; i < 4; i++)
		sum += skb->cb[i];
	return data[sum & 0xff];
}

char _license[] SEC("license") = "GPL";
