#!/bin/sh
# Runs in a fresh mount and UTS namespace: makes it a node's, then becomes the process that keeps both namespaces alive.
#   node-mounts.sh NAME FILES PAUSE
# FILES holds the node's own run, lib and log; whatever is written there is the node's alone.
set -eu
name=$1 files=$2 pause=$3

hostname "$name"
# Inside this namespace mounts propagate, as a kubelet expects; nothing reaches the machine's own.
mount --make-rshared /

# Those that a kubelet writes to, each for itself: they are the whole machine's.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  [ -e "/proc/sys/$setting" ] || continue
  copy=$files/sysctl/$setting
  mkdir -p "${copy%/*}"
  cat "/proc/sys/$setting" >"$copy"
  mount --bind "$copy" "/proc/sys/$setting"
done

mount -t bpf -o mode=700 bpf /sys/fs/bpf
mount --bind "$files/resolv.conf" /etc/resolv.conf
mount --bind "$files/log" /var/log
mount --bind "$files/run" /run
# The last, which says that all is done: FILES is under /var/lib.
mount --bind "$files/lib" /var/lib
exec "$pause"
