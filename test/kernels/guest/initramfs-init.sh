#!/bin/sh
# Init of the initramfs: the host's root, read-only, with a tmpfs over it, becomes the guest's root; then guest-init.sh of it.
# The kernel's command line says where that is: millrace.init=PATH.
b=/bin/busybox
$b mkdir -p /proc /host /over /new
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module" || echo "insmod $module failed"; done </modules.order
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /host || exec $b sh
$b mount -t tmpfs -o size=75% tmpfs /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /new || exec $b sh
init=$($b sed -n 's/.*millrace\.init=\([^ ]*\).*/\1/p' /proc/cmdline)
$b umount /proc
$b mount --move /dev /new/dev
exec $b switch_root /new /bin/bash "$init"
