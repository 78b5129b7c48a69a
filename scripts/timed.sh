#!/usr/bin/env bash
# Runs a command and says how long it took: timed.sh NAME COMMAND [ARGUMENT ...]
name=$1
shift
started=$(date +%s.%N)
"$@"
status=$?
printf '[%s: %.1f s%s]\n' "$name" "$(echo "$(date +%s.%N) $started" | awk '{print $1 - $2}')" "$([ $status = 0 ] || echo ", exit $status")"
exit $status
