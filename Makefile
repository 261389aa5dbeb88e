# `make demo` and `make test` are all a newcomer needs; both set up .venv first and can be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two half-idle BLAS pools on small operations cost more than they give.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help setup demo test test-slow lint clean

help:
	@echo "make demo      set up .venv, then the whole method on photographs (about 5 minutes on 2 cores)"
	@echo "make test      set up .venv, then the fast tests (under 10 minutes on 2 cores)"
	@echo "make test-slow the slow tests"
	@echo "make lint      style and type checks"

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "-- setting up $(VENV) (PyTorch is large: a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, found %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python -m pip install --quiet --no-deps mmagic==1.2.0 || echo "-- without mmagic, whose data file NIQE needs: its golden test is skipped"
	@touch $@

setup: $(VENV)/.installed

demo: setup
	@echo "-- running the demo: results in demo_output/"
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

clean:
	rm -rf $(VENV) demo_output .pytest_cache .ruff_cache
