PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.windrow-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench ui clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Windrow needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Fix: make PYTHON=python3.12 install") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch==2.13.0
	$(PIP) install --quiet -c constraints.txt -e '.[airflow,openvino,postgres,sentencepiece,dev]'
	@touch $@

install: $(READY)  ## Make .venv with Windrow, Airflow and the tools, versions pinned

demo: install  ## Run the review Dag in a real Airflow and show the table it made
	$(BIN)/windrow demo

test: install  ## Run all tests (what CI runs)
	$(BIN)/python -m pytest

check: install  ## Lint, types, formatting and tests: run it before a commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: install  ## Compare with the Transformers pipeline, then measure memory and speed at scale
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.scale

ui: install  ## Start Airflow's web page on the demo's home, and print a login
	$(BIN)/windrow demo --ui

clean:  ## Remove .venv and caches; runs and tables stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
