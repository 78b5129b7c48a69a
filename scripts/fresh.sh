#!/usr/bin/env bash
# Tries the README's commands in a new, minimal Debian 12 root: fresh.sh [setup]
# The committed state is what is tried. The root is made by debootstrap from the machine's own package sources, and kept as a
# packed file under build/ for the next time; everything mounted is unmounted again, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
[ "$(id -u)" = 0 ] || { echo "test-fresh: needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "test-fresh: run 'make setup' first, it installs debootstrap" >&2; exit 1; }

mkdir -p build
packed=$PWD/build/bookworm.tar
root=$(mktemp -d "${TMPDIR:-/tmp}/romana-fresh.XXXXXX")
clean() {
    local place
    for place in dev/pts dev/shm dev sys proc run; do
        if mountpoint -q "$root/$place"; then umount -l "$root/$place"; fi
    done
    rm -rf --one-file-system "$root"
}
trap clean EXIT

if [ ! -e "$packed" ]; then
    echo "== making a minimal Debian 12 root"
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 == "bookworm" {print $1; exit}')
    [ -n "$mirror" ] || { echo "test-fresh: this machine's apt has no source for bookworm" >&2; exit 1; }
    debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$root" "$mirror" >build/debootstrap.log 2>&1 || {
        tail -n 20 build/debootstrap.log >&2
        exit 1
    }
    rm -rf "$root/var/cache/apt/archives/"*.deb
    tar -C "$root" -cf "$packed.new" . && mv "$packed.new" "$packed"
else
    tar -C "$root" -xf "$packed"
fi

# How this machine reaches its package sources goes along; nothing else of it does.
cp -a /etc/apt/. "$root/etc/apt/"
rm -rf "$root/etc/ssl/certs" && cp -aL /etc/ssl/certs "$root/etc/ssl/certs"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do [ ! -e "$file" ] || cp -L "$file" "$root$file"; done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys" && mount --make-rslave "$root/sys"
mount --rbind /dev "$root/dev" && mount --make-rslave "$root/dev"
mount -t tmpfs tmpfs "$root/run"

mkdir -p "$root/src/romana"
git archive HEAD | tar -C "$root/src/romana" -xf -
inside() {
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} ${UV_DEFAULT_INDEX:+UV_DEFAULT_INDEX="$UV_DEFAULT_INDEX"} \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
        ${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} \
        chroot "$root" bash -euc "cd /src/romana && $1"
}
inside "test ! -e /usr/bin/nft && test ! -e /usr/bin/gcc && echo '== a fresh root: no compiler, no nft, no bird'"
if [ "$only" = setup ]; then
    inside "make setup && make setup"
    inside "test ! -e /usr/sbin/policy-rc.d && .venv/bin/python -c 'import romana; print(romana.__version__)'"
else
    inside "make demo"
    inside "make test"
fi
echo "test-fresh: passed"
