#!/bin/bash
# The guest's PID 1: mounts what a node has, then runs the commands that the host leaves in the shared folder /job, one after
# another: N.sh is a command, N.out what it printed, N.status its exit status, `stop` the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm /run/netns /job
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -sfn /proc/self/fd /dev/fd
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none job /job || echo 'no shared folder'
# What the machine's own agent and labs left on it is none of the guest's business.
rm -rf /var/lib/millrace /etc/netns
mkdir -p /lib/modules
ln -sfn "$(sed -n 's/.*millrace\.modules=\([^ ]*\).*/\1/p' /proc/cmdline)" "/lib/modules/$(uname -r)"
modprobe -a virtio_net tun nf_conntrack
# Where the kernel has them: what kube-proxy's IPVS mode works with. Without a device that nobody asked for.
modprobe -q dummy numdummies=0
modprobe -aq ip_vs ip_vs_rr ip_set ip_set_hash_ip
ip link set lo up
# Whoever waits for all CPUs, as each end of a namespace does, waits for milliseconds; an emulated CPU takes its time.
echo 1 >/sys/kernel/rcu_expedited
hostname guest
cut -d' ' -f1 /proc/uptime >/job/ready.new && mv /job/ready.new /job/ready
n=1
while :; do
  if [ -e /job/$n.sh ]; then
    setsid bash /job/$n.sh >/job/$n.out 2>&1 </dev/null
    echo $? >/job/status.new && mv /job/status.new /job/$n.status
    n=$((n + 1))
  elif [ -e /job/stop ]; then
    echo o >/proc/sysrq-trigger
    sleep 60
  else
    sleep 0.2
  fi
done
