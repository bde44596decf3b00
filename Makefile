# Every target makes the .venv that it needs; a second run starts at once.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# Two processes, each of which takes whole files: the models and servers of a file are made once.
TESTS := $(BIN)/python -m pytest -rs -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-all postgres lint check bench bench-guard bench-peers growth survival clean
# Two sets of packages must never be installed into one environment at the same time.
.NOTPARALLEL:

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: .venv/core ## train on a generated log and recommend from it
	$(BIN)/sasrec demo

test: .venv/test postgres ## run the tests, without the slow ones
	$(TESTS)

test-all: .venv/test postgres ## run every test
	$(TESTS) -m ""

# The tests of events in PostgreSQL start a private server of these programs; they are installed once, as root on Debian.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && export DEBIAN_FRONTEND=noninteractive && \
		timeout 300 sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql' >/dev/null 2>&1; } || \
		echo "PostgreSQL could not be installed: its tests will be skipped; on Debian, as root: apt install postgresql" >&2

lint: .venv/dev ## check format, lint, types and the import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test ## lint and test: what must pass before a change is proposed

bench: .venv/core ## measure time and memory
	$(BIN)/python -m benchmarks

bench-guard: .venv/core ## check that nothing has become much slower beside its own matrix products
	$(BIN)/python -m benchmarks.guard

bench-peers: .venv/core ## measure other systems beside this one, each in an environment of its own
	$(BIN)/python -m benchmarks.peers

growth: .venv/core ## measure how time and memory grow with the log
	$(BIN)/python -m benchmarks.growth

survival: .venv/test ## kill, fill, flip and flood, and count what is survived
	$(BIN)/python -m benchmarks.survival

clean: ## remove the environment and every cache
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build

# An empty file in .venv stands for each set of packages that has been installed; the larger sets hold the smaller.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sasrec needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/made pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

.venv/test: .venv/made pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	@touch .venv/core $@

.venv/dev: .venv/made pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	@touch .venv/core .venv/test $@
