# Everything works on a fresh machine with Python 3.11 or newer and make: each target sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What is installed: enough to serve, or everything.
SERVING := $(VENV)/.installed-to-serve
EVERYTHING := $(VENV)/.installed-everything

.PHONY: setup serve test test-slow check bench format

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

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python bench/stages.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
