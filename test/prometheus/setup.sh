#!/bin/sh
# Installs Debian's Prometheus with promtool, as root, when it is missing; nothing of it is started. What `make setup` installs is
# there before.
set -eu

if command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1; then exit 0; fi
command -v apt-get >/dev/null 2>&1 || { echo 'make test-prometheus: this is no Debian: prometheus and promtool, 2.42 or later, have to be there'; exit 3; }
[ "$(id -u)" = 0 ] || { echo 'make test-prometheus: the Debian package prometheus is missing, run it as root'; exit 3; }
printf '  %-6s %s\n' APT 'installing prometheus'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package starts a server of its own where it may.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && trap 'rm -f "$log" $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
{ apt-get -q update && apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install prometheus; } >"$log" 2>&1 || {
  tail -20 "$log"
  echo 'make test-prometheus: could not install prometheus'
  exit 1
}
