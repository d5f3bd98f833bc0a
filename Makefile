# `make demo` and `make test` work from a bare clone: they need Python 3.11 (or newer) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
PACKAGES := 'import sysconfig; print(sysconfig.get_path("purelib"))'
WORKDIR ?= build/demo

.PHONY: help setup demo test test-slow lint bench clean

help:
	@echo "make demo       train, evaluate and deblur on the embedded data (about 10 minutes)"
	@echo "make test       run the tests"
	@echo "make test-slow  run the long trainings, too"
	@echo "make lint       check style and types"
	@echo "make bench      compare speed and memory with PyTorch (about 35 minutes; leave the machine alone)"
	@echo "make setup      make the virtual environment $(VENV) with the pinned requirements"

setup: $(VENV)/.installed

# The stamp is newer than the requirements it was made from, so nothing is installed twice.
$(VENV)/.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python main.py --config=configs/quickstart.py --workdir=$(WORKDIR) --mode=train_and_evaluate

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks

# A second environment that sees all of the first, and adds PyTorch.
$(BENCH)/.installed: $(VENV)/.installed benchmarks/requirements.txt
	test -x $(BENCH)/bin/python || $(BIN)/python -m venv $(BENCH)
	$(BIN)/python -c $(PACKAGES) > "$$($(BENCH)/bin/python -c $(PACKAGES))/linlatent.pth"
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

clean:
	rm -rf build dist *.egg-info
