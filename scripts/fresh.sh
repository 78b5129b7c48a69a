#!/usr/bin/env bash
# Tries the README's commands in a new, minimal Debian 12 root: fresh.sh [setup]
# The committed state is what is tried. The root is made by debootstrap from the machine's own package sources, and kept as a
# packed file under build/ for the next time. Everything runs in a mount and a process namespace of its own, so nothing
# stays mounted or running, however this ends.
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
fail() { printf 'test-fresh: %s\n' "$1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root"
case "$only" in "" | setup) ;; *) fail "ONLY=$only is unknown; ONLY=setup is the quick form" ;; esac
command -v debootstrap >/dev/null || fail "run 'make setup' first, it installs debootstrap"

if [ -z "${ROMANA_FRESH_ROOT:-}" ]; then
    root=$(mktemp -d "${TMPDIR:-/tmp}/romana-fresh.XXXXXX")
    trap 'rm -rf --one-file-system "$root"' EXIT
    ROMANA_FRESH_ROOT=$root unshare --mount --propagation private --pid --fork --kill-child "$0" "$@"
    exit
fi
root=$ROMANA_FRESH_ROOT
mount --bind "$root" "$root"

mkdir -p build
packed=$PWD/build/bookworm.tar
if [ ! -e "$packed" ]; then
    echo "== making a minimal Debian 12 root"
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 == "bookworm" {print $1; exit}')
    [ -n "$mirror" ] || fail "this machine's apt has no source for bookworm"
    debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$root" "$mirror" >build/debootstrap.log 2>&1 ||
        { tail -n 20 build/debootstrap.log >&2; fail "debootstrap failed; all of it is in build/debootstrap.log"; }
    rm -rf "$root/var/cache/apt/archives/"*.deb
    tar -C "$root" -cf "$packed.new" .
    mv "$packed.new" "$packed"
else
    tar -C "$root" -xf "$packed"
fi
chmod 755 "$root"

# How this machine reaches its package sources goes along (no passwords); nothing else of it does.
rm -rf "$root/etc/apt"
cp -a /etc/apt "$root/etc/apt"
rm -rf "$root/etc/apt/auth.conf" "$root/etc/apt/auth.conf.d"
mkdir -p "$root/usr/share/keyrings"
cp -aL /usr/share/keyrings/. "$root/usr/share/keyrings/"
rm -rf "$root/etc/ssl/certs"
cp -aL /etc/ssl/certs "$root/etc/ssl/certs"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do [ ! -e "$file" ] || cp -L "$file" "$root$file"; done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"

mkdir -p "$root/src/romana"
git archive HEAD | tar -C "$root/src/romana" -xf -
passed=()
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_DEFAULT_TIMEOUT UV_DEFAULT_INDEX UV_INDEX_URL http_proxy https_proxy no_proxy \
    HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE; do
    [ -z "${!name:-}" ] || passed+=("$name=${!name}")
done
# Not chroot alone: the lab enters mount namespaces, and a namespace's root must then be the fresh one.
mkdir "$root/.machine"
inside() {
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${passed[@]}" \
        unshare --mount --propagation private bash -euc '
            cd "$1"
            pivot_root . .machine
            umount -l /.machine
            cd /src/romana
            exec bash -euc "$2"
        ' fresh "$root" "$1"
}
inside "! command -v nft gcc bird && echo '== a fresh root: no compiler, no nft, no bird'"
if [ "$only" = setup ]; then
    inside "make setup"
    echo "== and again"
    inside "make setup"
    inside "test ! -e /usr/sbin/policy-rc.d && .venv/bin/python -c 'import romana; print(romana.__version__)'"
    inside "make clean && test ! -e .venv && test ! -e build"
else
    inside "make demo"
    inside "make test"
fi
echo "test-fresh: passed"
