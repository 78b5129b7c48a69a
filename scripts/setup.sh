#!/usr/bin/env bash
# Brings a Debian 12 machine to the point where everything here builds, runs and tests. Repeating it takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    bird2 ca-certificates conntrack containernetworking-plugins debootstrap etcd-server faketime frr gcc iproute2 iptables iputils-ping kmod
    libc6-dev libnftables1 musl-tools nftables openssl procps python3-venv tcpdump
)
policy=/usr/sbin/policy-rc.d
refusal=$'#!/bin/sh\n# made by set-up of romana, and removed by it\nexit 101'
python=.venv/bin/python

step() { printf '== %s\n' "$1"; started=$(date +%s%N); }
took() { printf '   %d.%01d s\n' $((($(date +%s%N) - started) / 1000000000)) $((($(date +%s%N) - started) / 100000000 % 10)); }
fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root: it installs Debian packages, and everything after it makes network namespaces"
grep -q 'VERSION_ID="12"' /etc/os-release || printf 'setup: written for Debian 12; trying anyway\n' >&2
mkdir -p build/bench

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >build/apt.log 2>&1
}
if [ ${#missing[@]} -gt 0 ]; then
    step "installing ${#missing[@]} Debian packages: ${missing[*]}"
    # Packages must not start their services here; a policy that the machine already has stays as it is. One that a killed
    # set-up left is ours.
    if [ ! -e $policy ] || cmp -s $policy <<<"$refusal"; then
        trap 'rm -f $policy' EXIT
        printf '%s\n' "$refusal" >$policy
        chmod 755 $policy
    fi
    if ! install_packages; then
        echo "   refreshing the package lists first"
        apt-get update -qq || fail "apt-get update failed; look at /etc/apt"
        install_packages || { tail -n 20 build/apt.log >&2; fail "apt-get failed; all of it is in build/apt.log"; }
    fi
    if [ -n "$(trap -p EXIT)" ]; then
        rm -f $policy
        trap - EXIT
    fi
    took
fi

if ! $python -c '' 2>/dev/null; then
    step "making .venv with /usr/bin/python3"
    rm -rf .venv
    /usr/bin/python3 -m venv .venv
    took
fi
wanted=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$wanted" ]; then
    step "installing uv $wanted"
    $python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
    took
fi
# What the environment should hold is named by these files' content; it is made so again only when that changes.
content=$(cat requirements/lock.txt requirements/uv.txt pyproject.toml | sha256sum)
if [ "$(cat .venv/romana-content 2>/dev/null)" != "$content" ]; then
    step "installing the locked dependencies"
    .venv/bin/uv pip sync -q --compile-bytecode --python $python --require-hashes requirements/uv.txt requirements/lock.txt
    .venv/bin/uv pip install -q --python $python --no-deps --no-build-isolation -e .
    printf '%s' "$content" >.venv/romana-content
    took
fi

version=$(sed -n "s/^__version__ = \"\(.*\)\"/\1/p" src/romana/__init__.py)
step "compiling"
compile() { # program, source, compiler and its options
    local part newer=
    for part in "$2" "${2%/*}"/*.h; do [ "$part" -nt "$1" ] && newer=yes; done
    [ -n "$newer" ] || return 0
    echo "   $2"
    "${@:3}" -O2 -Wall -Wextra -Werror -o "$1.new" "$2"
    mv "$1.new" "$1"
}
[ ! -e native/romana-cni.c ] || compile build/romana-cni native/romana-cni.c musl-gcc -static -s -std=gnu11 "-DVERSION=\"$version\""
for source in bench/native/*.c; do
    [ ! -e "$source" ] || compile "build/bench/$(basename "$source" .c)" "$source" gcc -std=gnu11 -pthread
done
took
