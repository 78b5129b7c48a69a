# romana: `make help` says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
BIN := .venv/bin
TIMED := @scripts/timed.sh
READY := .venv/ready

demo: $(READY) ## set everything up, then run the main job: a data centre in namespaces, real packets
	$(TIMED) demo $(BIN)/romana lab demo examples/demo/lab.yaml

setup: ## install what Debian 12 lacks, make .venv, compile; seconds when repeated
	$(TIMED) setup scripts/setup.sh
	@touch $(READY)

$(READY): scripts/setup.sh pyproject.toml $(wildcard requirements/*.txt native/*.c bench/native/*.c)
	$(TIMED) setup scripts/setup.sh
	@touch $(READY)

test: $(READY) ## all tests (root; they make their own network namespaces); ARGS="-k NAME" for some
	$(TIMED) test $(BIN)/pytest -q --durations=10 $(ARGS)

check: $(READY) ## formatting, lint, types, layers, sizes, documents
	$(TIMED) format $(BIN)/ruff format --check --quiet .
	$(TIMED) lint $(BIN)/ruff check --quiet .
	$(TIMED) types $(BIN)/mypy
	$(TIMED) layers $(BIN)/lint-imports --no-logo
	$(TIMED) sizes $(BIN)/python scripts/check_sizes.py
	$(TIMED) configuration $(BIN)/python scripts/config_reference.py
	$(TIMED) documents $(BIN)/python scripts/check_docs.py

fix: $(READY) ## format, and mend what can be mended
	$(TIMED) fix $(BIN)/ruff check --fix-only --quiet .
	$(TIMED) format $(BIN)/ruff format --quiet .

docs: $(READY) ## write docs/configuration.md again from the types
	$(TIMED) docs $(BIN)/python scripts/config_reference.py --write

bench: $(READY) ## benchmarks beside their baselines; NAME=cni runs one, JSON=FILE writes its figures
	$(TIMED) bench scripts/bench.sh "$(NAME)" "$(JSON)"

soak: $(READY) ## NAME=ipam: 40 minutes of faults by SEED=1; NAME=policy: proof by testing; NAME=routing: faults of fabrics; another NAME: those tests for MINUTES=60
	$(TIMED) soak scripts/soak.sh "$(NAME)" "$(MINUTES)" "$(SEED)"

test-fresh: ## set-up, demo and tests in a new Debian 12 root (debootstrap); ONLY=setup is the quick form
	$(TIMED) test-fresh scripts/fresh.sh $(ONLY)

lock: $(READY) ## choose the newest versions of all dependencies again
	$(TIMED) lock $(BIN)/uv pip compile --quiet --upgrade --python /usr/bin/python3 --generate-hashes --no-header --no-annotate \
	  --group pyproject.toml:dev --extra aws pyproject.toml -o requirements/lock.txt

clean: ## take everything away again: labs, build, .venv
	$(TIMED) clean scripts/clean.sh

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

.PHONY: demo setup test check fix docs bench soak test-fresh lock clean help
