#!/usr/bin/env bash
# Runs one benchmark, or all of them: bench.sh [NAME] [JSON FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-}
json=${2:-}
names=()
if [ -n "$name" ]; then
    [ -e "bench/$name.py" ] || { echo "bench: no bench/$name.py; there are: $(cd bench && echo *.py)" >&2; exit 2; }
    names=("$name")
else
    for file in bench/*.py; do names+=("$(basename "$file" .py)"); done
fi
for one in "${names[@]}"; do
    printf '== %s\n' "$one"
    .venv/bin/python "bench/$one.py" ${json:+--json "$json"}
done
