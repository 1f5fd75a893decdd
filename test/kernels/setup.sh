#!/bin/sh
# Installs the Debian packages that only `make kernels` needs, those that are missing, as root. What `make setup` installs is
# there before. Does nothing, in a few milliseconds, when all is there.
set -eu

[ "$(uname -m)" = x86_64 ] || { echo "make kernels: the guests share this machine's programs, so it has to be x86_64"; exit 3; }
packages='qemu-system-x86 busybox-static xz-utils zstd kmod'
command -v dpkg-query >/dev/null 2>&1 || { echo 'make kernels: this is no Debian: it takes the kernels from Debian by apt'; exit 3; }
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | sed -n 's/ installed$//p')
missing=''
for package in $packages; do
  printf '%s\n' "$installed" | grep -qx "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || { echo "make kernels: these Debian packages are missing, run it as root:$missing"; exit 3; }
printf '  %-6s %s\n' APT "installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 -- a list of words
{ apt-get -q update && apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install $missing; } >"$log" 2>&1 || {
  tail -20 "$log"
  echo "make kernels: could not install$missing"
  exit 1
}
