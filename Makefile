# Two commands do everything on a fresh machine: `make demo` and `make test`. Both make their own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# numba-cuda has wheels for Linux and Windows; elsewhere its tests skip and say so.
EXTRAS ?= $(if $(filter Linux,$(shell uname -s)),test$(comma)cuda,test)
comma := ,
WORKERS ?= 2

.PHONY: demo test lint bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml $(wildcard kernel_ir/* rewrites/* rewrites/books/* extract/* extract/targets/* backends/*) | $(BIN)/python
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS),dev]'
	touch $@

demo: $(VENV)/.demo  ## optimizes and runs a real kernel on this CPU
	$(BIN)/python examples/demo.py

test: $(VENV)/.test  ## the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.lint  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## times every kernel against its peers, alternating in one run
	$(BIN)/python benchmarks/cpu.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
