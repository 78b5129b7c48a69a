#!/usr/bin/env bash
# Takes away what set-up, labs and tests made in this directory and on this machine; Debian packages stay.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x .venv/bin/romana ]; then
    .venv/bin/romana lab down --all || echo "clean: labs may be left; 'ip netns' shows them" >&2
fi
rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
find . -name __pycache__ -type d -prune -exec rm -rf {} +
