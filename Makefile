# `make demo` and `make test` create .venv first and can be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run small operations, on which several BLAS threads cost more time than they save; a process per core does not.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

.PHONY: help setup demo test test-slow lint docs evidence clean

help:
	@echo "make demo      create .venv and run the whole method on photographs (about 5 minutes on 2 cores)"
	@echo "make test      create .venv and run the fast tests (under 10 minutes on 2 cores)"
	@echo "make test-slow run the slow tests"
	@echo "make lint      check style, types, and imports"
	@echo "make docs      build the documentation site in build/site"
	@echo "make evidence  say how each page of docs/evidence is made, and what that needs"

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "-- creating $(VENV) (PyTorch is large: the first time takes a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is required, found %s; use: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python -m pip install --quiet --no-deps mmagic==1.2.0 || echo "-- mmagic is not available; the golden test of NIQE, which needs its data file, is skipped"
	@touch $@

setup: $(VENV)/.installed

demo: setup
	@echo "-- running the demo; results are written to demo_output/"
	$(BIN)/aesop demo --output demo_output

test: setup
	@echo "-- running the fast tests"
	$(PYTEST) -m "not slow"

test-slow: setup
	@echo "-- running the slow tests"
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check
	$(BIN)/lint-imports

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

# Warnings are errors: a link or an anchor that leads nowhere, a page that is in no table of contents.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky docs build/site
	@echo "-- open build/site/index.html in a browser"

evidence: setup
	@$(BIN)/python benchmarks/evidence.py

clean:
	rm -rf $(VENV) build/site demo_output .pytest_cache .ruff_cache
