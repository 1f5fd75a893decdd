#!/bin/sh
# Brings a fresh Debian 12 to where `make build` works: Debian packages (only those that are missing, as root) and the
# npm packages of the lock file, Node 24 among them. Does nothing, in well under a second, when all is there.
set -eu
cd "$(dirname "$0")/.."
# npm runs on the system's Node: the one in node_modules is what it replaces.
PATH=$(printf '%s' "$PATH" | sed "s|$PWD/node_modules/\.bin:||g")

packages='clang-16 llvm-16 libbpf-dev bpftool iproute2 nftables iptables iputils-ping conntrack tcpdump ethtool curl dnsutils procps kmod util-linux ca-certificates'
command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 || packages="nodejs npm $packages"

if command -v dpkg-query >/dev/null 2>&1; then
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | sed -n 's/ installed$//p')
  missing=''
  for package in $packages; do
    printf '%s\n' "$installed" | grep -qx "$package" || missing="$missing $package"
  done
  if [ -n "$missing" ]; then
    as_root=''
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null 2>&1 || { echo "make setup: these Debian packages are missing, run it as root:$missing"; exit 3; }
      as_root=sudo
    fi
    printf '  %-6s %s\n' APT "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 -- a list of words
    { $as_root apt-get -q update && $as_root apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install $missing; } >build-setup.log 2>&1 || {
      tail -20 build-setup.log
      echo "make setup: could not install$missing: see build-setup.log"
      exit 1
    }
    rm -f build-setup.log
  fi
else
  for tool in clang-16 llvm-strip-16 bpftool ip nft ping; do
    command -v "$tool" >/dev/null 2>&1 || { echo "make setup: this is no Debian and $tool is missing: install it"; exit 3; }
  done
fi

# npm's own record of what it installed says nothing about the lock file it came from: a stamp does.
stamp=node_modules/.setup
wanted=$(cat package.json package-lock.json | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x node_modules/.bin/node ]; then
  printf '  %-6s %s\n' NPM 'installing the packages of package-lock.json (Node 24 among them)'
  npm ci --loglevel=error --no-progress >/dev/null
  [ -x node_modules/.bin/node ] || { echo "make setup: there is no Node 24 package for $(uname -m): x86_64 and aarch64 are supported"; exit 3; }
  printf '%s\n' "$wanted" >"$stamp"
fi
