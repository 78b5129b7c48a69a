#!/usr/bin/env bash
# Repeats the tests whose names match until the time is over or one fails: soak.sh NAME [MINUTES]
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?"soak: which tests? make soak NAME=agent_restart [MINUTES=60]"}
minutes=${2:-60}
rounds=0
while [ $SECONDS -lt $((minutes * 60)) ]; do
    .venv/bin/pytest -q -x --no-header -k "$name" || { echo "soak: failed in round $((rounds + 1)), after $SECONDS s" >&2; exit 1; }
    rounds=$((rounds + 1))
done
echo "soak: $rounds rounds of '$name' in $SECONDS s, none failed"
