# The commands of a developer's day; `make help` lists them. Each is thin: what it runs can be run without make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CACHE := $(or $(PULLPASS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pullpass)

# Clusters of `make test` are apart from those that you started yourself, so that it can end all of its own.
STATE := $(CURDIR)/build/state

# Some tests have a state directory of their own, which is below that one.
DOWN = for state in $$(find $(STATE)/tmp -path "*/pullpass/clusters" -printf "%h " 2>/dev/null) $(STATE)/pullpass; do \
	XDG_STATE_HOME="$${state%/pullpass}" $(BIN)/python -m tests.cluster down --all >&2; done

# More for the command behind a target, as in: make test ARGS="tests/unit -x"
ARGS ?=

.PHONY: help demo test check fmt bench chaos fuzz generate lock clean distclean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Show pullpass at work on a cluster made for it
	@$(BIN)/python -m demo $(ARGS)

test: $(READY) ## Build what the test clusters are made of (once), then run every test
	@$(BIN)/python -m tests.cluster build
	@mkdir -p $(STATE); status=0; \
	trap '$(DOWN)' EXIT; \
	set -m; XDG_STATE_HOME=$(STATE) $(BIN)/python -m pytest --numprocesses 2 --basetemp=$(STATE)/tmp $(ARGS) & \
	tests=$$!; set +m; \
	trap 'kill -INT $$tests 2>/dev/null || true' INT; \
	trap 'kill -TERM -- -$$tests 2>/dev/null || true' TERM HUP; \
	while wait $$tests || status=$$?; kill -0 $$tests 2>/dev/null; do status=0; done; \
	exit $$status

check: $(READY) ## Everything that reads the code and runs none of it
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pullpass.api --check
	$(BIN)/yamllint --strict crds kind-config.yaml charts/pullpass/Chart.yaml charts/pullpass/values.yaml charts/pullpass/ci tests/cluster/nodeimage
	$(BIN)/shellcheck .ci/run tests/cluster/nodeimage/setup.sh

fmt: $(READY) ## Format the code, and mend what the linter can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(READY) ## Print the figures of the benchmarks
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(READY) ## Rotate 1,000 passwords while everything fails at random; CHAOS_SEED and CHAOS_ROTATIONS say what
	@$(BIN)/python -m tests.chaos

fuzz: $(READY) ## Try parsers and the token server with input made at random; FUZZ_EXAMPLES and FUZZ_SEED say what
	@seed=$${FUZZ_SEED:-$$RANDOM}; export FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-2000}; \
	echo "The same again: make fuzz FUZZ_SEED=$$seed FUZZ_EXAMPLES=$$FUZZ_EXAMPLES"; \
	$(BIN)/python -m pytest tests/fuzz --timeout=0 --hypothesis-seed=$$seed $(ARGS)

generate: $(READY) ## Write the CRDs anew from the models
	@$(BIN)/python -m pullpass.api

lock: $(READY) ## Resolve the dependencies anew into both locks; ARGS=--upgrade takes newer versions
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) \
		pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header $(ARGS) \
		--group dev pyproject.toml -o requirements-dev.lock

clean: ## End the test clusters, remove the environment and whatever was built here
	@if [ -e $(READY) ]; then \
		$(BIN)/python -m tests.cluster down --all; \
		$(DOWN); \
	fi
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -d "$(CACHE)" ]; then echo "What the test clusters are made of stays in $(CACHE): make distclean"; fi

distclean: clean ## And remove the cache, which takes minutes to build again
	rm -rf "$(CACHE)"

# Debian has the module venv in a package of its own. uv comes by pip in the locked version, and does the rest.
$(READY): pyproject.toml requirements-dev.lock
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		echo "Installing python3-venv, without which Python makes no environments"; \
		apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; \
	fi
	@if [ ! -x $(BIN)/python ]; then $(PYTHON) -m venv .venv; fi
	@if [ ! -x $(BIN)/uv ]; then \
		awk '/^[a-z]/ {uv = /^uv==/} uv' requirements-dev.lock > .venv/uv.lock; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.lock; \
	fi
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements-dev.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
