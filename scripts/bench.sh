#!/usr/bin/env bash
# Runs one benchmark, or all of them: bench.sh [NAME] [JSON FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-}
json=${2:-}
there=()
for file in bench/*.py; do
    # Each benchmark is a program with a `main`; the other modules of bench/ are parts of several.
    if grep -q '__main__' "$file" 2>/dev/null; then there+=("$(basename "$file" .py)"); fi
done
names=("${there[@]}")
if [ -n "$name" ]; then
    [[ " ${there[*]} " == *" $name "* ]] || { echo "bench: there is no '$name'; there are: ${there[*]}" >&2; exit 2; }
    names=("$name")
elif [ -n "$json" ]; then
    echo "bench: JSON=FILE needs NAME=..., one of: ${there[*]}" >&2
    exit 2
fi
for one in "${names[@]}"; do
    printf '== %s\n' "$one"
    PYTHONPATH=. .venv/bin/python "bench/$one.py" ${json:+--json "$json"}
done
