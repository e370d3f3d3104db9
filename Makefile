# Two commands do everything: `make demo` and `make test`. Both make .venv and install what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Files go to two processes, each with one thread: half the time on 2 cores. One process: make WORKERS=0 test
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --durations 10

.PHONY: help demo test slow gpu check lint venv clean

help:
	@echo "make demo    set up, then run the main job: pretrain a small BERT, fine-tune it four ways, write a report"
	@echo "make test    set up, then run the tests"
	@echo "make slow    the tests that take minutes;  make gpu   the tests that need a GPU"
	@echo "make check   linter, formatter, type checker and tests: what a change must pass"
	@echo "make venv    only set up (another interpreter: make PYTHON=python3.12 venv)"

demo: venv
	$(BIN)/hfcourse run bert/tour

test: venv
	$(PYTEST)

slow: venv
	$(PYTEST) -m slow

gpu: venv
	$(PYTEST) -m gpu

check: lint
	$(PYTEST)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The stamp is written last: an installation that was broken off is done again, a finished one costs nothing.
venv: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 or newer: name one, as in make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@# seqeval comes as sources alone; the pip of older Pythons would build it in a way that no longer works.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
