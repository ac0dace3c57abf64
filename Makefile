# Everything works on a fresh machine with Python 3.11 or newer and make: each target sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What is installed: enough to serve, or everything.
SERVING := $(VENV)/.installed-to-serve
EVERYTHING := $(VENV)/.installed-everything

# The linter of the wire contract; npm only carries its binary.
BUF := $(VENV)/npm/node_modules/.bin/buf
BUF_VERSION := 1.75.0

.PHONY: setup serve test test-slow check check-proto lint-proto proto bench format rivals-setup rivals

setup: $(EVERYTHING)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(SERVING): pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(EVERYTHING): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $@ $(SERVING)

serve: $(SERVING)
	$(BIN)/python -m service

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup check-proto
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The committed code is what the contract gives, and the contract keeps the rules of its trade.
check-proto: setup
	$(BIN)/python proto/generate.py --check
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-proto; \
		elif [ -n "$$CI" ]; then echo "npm is needed to lint proto/"; exit 1; \
		else echo "npm is not here: proto/ is not linted"; fi

lint-proto: $(BUF)
	$(BUF) lint proto

$(BUF):
	npm install --silent --no-fund --no-audit --prefix $(VENV)/npm @bufbuild/buf@$(BUF_VERSION)

proto: setup
	$(BIN)/python proto/generate.py

# Each prints its tables and keeps them; bench/NAME.py --help says how to measure one of them otherwise.
bench: setup
	@set -e; for name in stages engine loader serving clients rates sizes; do \
		$(BIN)/python bench/$$name.py --results benchmarks/results; done

# What our service is compared with; optional, gigabytes, and never in its own environment.
RIVALS := .venv-rivals
TRITON := .venv-triton

rivals-setup: $(RIVALS)/.installed $(TRITON)/.installed

$(RIVALS)/.installed: bench/rivals.txt
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(TRITON)/.installed: bench/rivals-triton.txt bench/patch_triton.py
	$(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	$(TRITON)/bin/python bench/patch_triton.py
	touch $@

rivals: setup
	$(BIN)/python bench/rivals.py --results benchmarks/results

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
