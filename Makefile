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

.PHONY: setup serve test test-slow check check-proto lint-proto proto bench format rivals-setup rivals lock audit dashboard

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

# Tests use one core each; a file's tests stay together, because they share what is slow to make.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test: setup
	$(PYTEST)

test-slow: setup
	$(PYTEST) -m slow

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

# What the images are made of. TORCH_INDEX: the index of PyTorch's CPU wheels, where pip does not know of them already.
# The lock for CUDA must not find those, so there pip's configuration is not read (PIP_INDEX_URL is).
LOCKING := .venv-lock
TORCH_INDEX ?=
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(LOCKING)/bin/pip-compile --quiet --upgrade --generate-hashes \
	--strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
WITHOUT_CPU := env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null

$(LOCKING)/.installed: deploy/requirements-tools.in
	$(PYTHON) -m venv $(LOCKING)
	$(LOCKING)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

lock: $(LOCKING)/.installed
	@$(LOCKING)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "the images have Python 3.11; try: make lock PYTHON=python3.11, after rm -r $(LOCKING)"; exit 1; }
	$(COMPILE) --output-file deploy/requirements-build.txt deploy/requirements-build.in
	$(COMPILE) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --extra tracing \
		--output-file deploy/requirements-cpu.txt pyproject.toml
	$(WITHOUT_CPU) $(COMPILE) --extra tracing --output-file deploy/requirements-cuda.txt pyproject.toml

# Licences, bills of materials, and known vulnerabilities, of which pip-audit asks PyPI. The image for a CPU has the
# versions of that for CUDA; of PyTorch's local version +cpu PyPI knows nothing.
audit: $(LOCKING)/.installed
	$(LOCKING)/bin/python -m deploy.supply_chain
	@set -e; for lock in cuda build; do echo "pip-audit of $$lock"; $(LOCKING)/bin/pip-audit --strict \
		--disable-pip --require-hashes --requirement deploy/requirements-$$lock.txt; done

dashboard: setup
	$(BIN)/python -m deploy.dashboard

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
