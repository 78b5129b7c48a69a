# romana: `make help` says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
BIN := .venv/bin
TIMED = @scripts/timed.sh

demo: setup ## set everything up, then run the main job: a data centre in namespaces, real packets
	$(TIMED) demo $(BIN)/romana lab demo examples/demo/lab.yaml

setup: ## install what Debian 12 lacks, make .venv, compile; seconds when repeated
	$(TIMED) setup scripts/setup.sh

test: setup ## all tests (root; they make their own network namespaces)
	$(TIMED) test $(BIN)/pytest -q --durations=10 $(ARGS)

check: setup ## formatting, lint, types, layers, sizes, documents
	$(TIMED) format $(BIN)/ruff format --check --quiet .
	$(TIMED) lint $(BIN)/ruff check --quiet .
	$(TIMED) types $(BIN)/mypy
	$(TIMED) layers $(BIN)/lint-imports --no-logo
	$(TIMED) sizes $(BIN)/python scripts/check_sizes.py
	$(TIMED) documents $(BIN)/python scripts/check_docs.py

fix: setup ## format, and mend what can be mended
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

bench: setup ## benchmarks beside their baselines; NAME=cni runs one, JSON=FILE writes its figures
	$(TIMED) bench scripts/bench.sh "$(NAME)" "$(JSON)"

test-fresh: ## set-up, demo and tests in a new Debian 12 root (debootstrap); ONLY=setup is the quick form
	$(TIMED) test-fresh scripts/fresh.sh $(ONLY)

lock: ## choose the newest versions of all dependencies again
	$(BIN)/uv pip compile --quiet --upgrade --python /usr/bin/python3 --generate-hashes --no-header --no-annotate \
	  --group pyproject.toml:dev pyproject.toml -o requirements/lock.txt

docs: setup ## write docs/configuration.md again from the types
	$(BIN)/python scripts/config_reference.py --write

clean: ## take everything away again: labs, build, .venv
	@if [ -x $(BIN)/romana ]; then $(BIN)/romana lab down --all || true; fi
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

.PHONY: demo setup test check fix bench test-fresh lock docs clean help
