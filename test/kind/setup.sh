#!/bin/sh
# Installs the Debian packages that only `make image` and `make kind` need, those that are missing, as root. What `make setup` installs is
# there before. Does nothing, in a few milliseconds, when all is there. Names of packages may be given instead.
set -eu

packages=${*:-docker.io containerd runc mmdebstrap}

command -v dpkg-query >/dev/null 2>&1 || { echo "this is no Debian: these have to be there: $packages"; exit 0; }
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | sed -n 's/ installed$//p')
missing=''
for package in $packages; do
  printf '%s\n' "$installed" | grep -qx "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || { echo "these Debian packages are missing, run it as root:$missing"; exit 3; }
printf '  %-6s %s\n' APT "installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Nothing that a package brings along is started: Docker runs in a network namespace of its own, and only for the tests.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && trap 'rm -f "$log" $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 -- a list of words
{ apt-get -q update && apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install $missing; } >"$log" 2>&1 || {
  tail -20 "$log"
  echo "could not install$missing"
  exit 1
}
