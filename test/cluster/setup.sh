#!/bin/sh
# Installs the Debian packages that only the test cluster needs, those that are missing, as root. What `make setup` installs
# is there before. Does nothing, in a few milliseconds, when all is there.
set -eu

packages='containerd runc containernetworking-plugins mmdebstrap openssl'

command -v dpkg-query >/dev/null 2>&1 || { echo 'make cluster: this is no Debian: containerd 1.6, runc, the CNI plugins, mmdebstrap and openssl have to be there'; exit 0; }
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | sed -n 's/ installed$//p')
missing=''
for package in $packages; do
  printf '%s\n' "$installed" | grep -qx "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || { echo "make cluster: these Debian packages are missing, run it as root:$missing"; exit 3; }
printf '  %-6s %s\n' APT "installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Nothing that a package brings along is started: the cluster starts a containerd of its own on each node.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && trap 'rm -f "$log" $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 -- a list of words
{ apt-get -q update && apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install $missing; } >"$log" 2>&1 || {
  tail -20 "$log"
  echo "make cluster: could not install$missing"
  exit 1
}
