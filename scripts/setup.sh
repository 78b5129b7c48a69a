#!/usr/bin/env bash
# Brings a Debian 12 machine to the point where everything here builds, runs and tests. Repeating it takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    bird2 ca-certificates conntrack containernetworking-plugins debootstrap gcc iproute2 iputils-ping kmod libc6-dev libnftables1
    musl-tools nftables procps python3-venv tcpdump
)

started=$SECONDS
step() { printf '== %-52s %3ds\n' "$1" $((SECONDS - started)); }
fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root: it installs Debian packages, and everything after it makes network namespaces"
grep -q 'VERSION_ID="12"' /etc/os-release || printf 'setup: written for Debian 12; trying anyway\n' >&2

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    step "installing ${#missing[@]} Debian packages: ${missing[*]}"
    # Packages must not start their services here; a policy that the machine already has stays as it is.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >build-apt.log 2>&1 || {
        step "refreshing the package lists"
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >build-apt.log 2>&1 || { tail -n 20 build-apt.log >&2; fail "apt-get failed"; }
    }
    rm -f build-apt.log
fi

if [ ! -x .venv/bin/python ]; then
    step "making .venv"
    /usr/bin/python3 -m venv .venv
fi
if [ ! -x .venv/bin/uv ] || ! .venv/bin/uv --version | grep -qF "$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/uv.txt)"; then
    step "installing uv"
    .venv/bin/python -m pip install -q --require-hashes -r requirements/uv.txt
fi
step "installing the locked dependencies"
# The lock was made without uv itself; installing (not syncing) keeps it, and versions that differ are replaced.
.venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r requirements/lock.txt
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .

step "compiling"
mkdir -p build/bench
if [ native/romana-cni.c -nt build/romana-cni ]; then
    musl-gcc -static -O2 -s -std=c11 -Wall -Wextra -Werror -o build/romana-cni native/romana-cni.c
fi
for source in bench/native/*.c; do
    [ -e "$source" ] || continue
    program=build/bench/$(basename "$source" .c)
    if [ "$source" -nt "$program" ]; then
        gcc -O2 -std=gnu11 -Wall -Wextra -Werror -pthread -o "$program" "$source"
    fi
done
step "ready"
