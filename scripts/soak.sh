#!/usr/bin/env bash
# Tries for a long time what the tests try for a short one: soak.sh NAME [MINUTES] [SEED]
#
# NAME `ipam`: a million steps of random hosts on the pure allocator, a million where hypothesis chooses, 100,000 nearly
# valid documents, and rounds of faults at sites of real programs until 40 minutes are over (or MINUTES); everything follows
# from SEED. PART=machine, PART=hypothesis, PART=fuzz or PART=faults does one of the four.
# NAME `policy`: 100,000 questions to documents, program and an outside engine; 2,000 altered documents that are still
# taken; 200 random worlds in the kernel; the engine's own cases at a real romana; 20,000 nearly valid documents. It takes
# ten minutes. PART=questions, PART=altered, PART=worlds, PART=cases or PART=fuzz does one of the five.
# NAME `routing`: every fault of links, routers, daemons and hosts at four fabrics, under pings between all pairs; 17 minutes.
# SITE=ebgp (ibgp, ospf, mixed) does one of the four, FAULT=link and so on one fault of each.
# Any other NAME: the tests whose names match, again and again, until one fails.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?"soak: what? make soak NAME=ipam [SEED=1], make soak NAME=policy [SEED=1], make soak NAME=routing [SEED=1], or make soak NAME=agent_restart [MINUTES=60]"}
python=.venv/bin/python

part() { # its name, then the command
    [ -z "${PART:-}" ] || [ "$PART" = "$1" ] || return 0
    local began=$SECONDS
    echo "soak: $1, seed $seed"
    "${@:2}" || { echo "soak: $1 failed after $((SECONDS - began)) s; its last lines say with which seed, which make soak NAME=$name PART=$1 SEED=... repeats" >&2; exit 1; }
    echo "soak: $1 done in $((SECONDS - began)) s"
}

if [ "$name" = ipam ]; then
    minutes=${2:-40}
    seed=${3:-1}
    part machine $python -m tests.soak.ipam_machine --steps 1000000 --seed "$seed"
    # the same machine, where hypothesis chooses: 20,000 runs of 50 steps, made smaller when one fails
    part hypothesis env ROMANA_TEST_EXAMPLES=20000 .venv/bin/pytest -q --no-header --hypothesis-seed="$seed" tests/unit/core/ipam/test_ipam_machine.py -k TestHosts
    part fuzz $python -m tests.fuzz.run --documents 100000 --seed "$seed"
    left=$((minutes * 60 - SECONDS - 180)) # a round that has begun is played to its end
    part faults $python -m tests.soak.faults --seed "$seed" --minutes "$((left > 60 ? left / 60 : 1))"
    echo "soak: $SECONDS s, none failed"
    exit 0
fi

if [ "$name" = policy ]; then
    seed=${3:-1}
    scripts/engine.sh >/dev/null
    part questions $python -m tests.soak.policy questions --seed "$seed" --count 100000
    part altered $python -m tests.soak.policy altered --seed "$seed" --count 2000
    part worlds $python -m tests.soak.policy worlds --seed "$seed" --count 200
    part cases $python -m tests.soak.policy cases --seed "$seed"
    part fuzz $python -m tests.fuzz.run --parser policy --documents 20000 --seed "$seed"
    echo "soak: $SECONDS s, none failed"
    exit 0
fi

if [ "$name" = routing ]; then
    minutes=${2:-40}
    seed=${3:-1}
    part routing $python -m tests.soak.routing --seed "$seed" --minutes "$minutes" ${SITE:+--site "$SITE"} ${FAULT:+--fault "$FAULT"}
    echo "soak: $SECONDS s, none failed"
    exit 0
fi

minutes=${2:-60}
rounds=0
while [ $SECONDS -lt $((minutes * 60)) ]; do
    .venv/bin/pytest -q -x --no-header -k "$name" || { echo "soak: failed in round $((rounds + 1)), after $SECONDS s" >&2; exit 1; }
    rounds=$((rounds + 1))
done
echo "soak: $rounds rounds of '$name' in $SECONDS s, none failed"
