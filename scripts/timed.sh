#!/usr/bin/env bash
# Runs a command and says how long it took: timed.sh NAME COMMAND [ARGUMENT ...]
name=$1
shift
started=$(date +%s%N)
"$@"
status=$?
tenths=$((($(date +%s%N) - started) / 100000000))
printf '[%s: %d.%d s%s]\n' "$name" $((tenths / 10)) $((tenths % 10)) "$([ $status = 0 ] || echo ", exit $status")"
exit $status
