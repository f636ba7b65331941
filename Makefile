# `make demo` and `make test` work on a fresh machine: both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Further arguments: make demo DEMO=--serve, make test PYTEST='-k soup'
DEMO ?=
PYTEST ?=

# Test files run side by side in so many processes; 0 runs them in this one.
JOBS ?= 2

.PHONY: help demo test check lint types slow setup clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    the main job on this machine, from nothing to a published version 2"
	@echo "make test    all tests but the slow ones"
	@echo "make check   what CI runs: lint, types, tests with warnings as errors"
	@echo "make slow    the tests that take minutes, and rare cases by the hundred"
	@echo "make setup   only the environment in $(VENV)"
	@echo "make clean   remove the environment, caches and the demo"

demo: $(INSTALLED)
	$(BIN)/bot demo --dir demo $(DEMO)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST)

check: lint types
	@$(MAKE) --no-print-directory test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

slow: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow $(PYTEST)

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed. Debian: apt-get install python3."; \
	  echo "Under another name: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No venv module; trying virtualenv."; $(PYTHON) -m virtualenv -q $(VENV); } || { \
	  echo "Install one of them and try again. Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); the first time this takes some minutes."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile \
	  -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # as pip does, but on every core
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info demo
