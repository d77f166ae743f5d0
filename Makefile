PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS := $(BIN)/python -m pytest --numprocesses=$(or $(WORKERS),2)
READY := $(VENV)/.windrow-installed
OLDEST := .venv-oldest
OLD_PINS := apache-airflow==3.1.1 cadwyn==5.4.4 fastapi==0.117.1 pydantic==2.11.10 pyjwt==2.10.1 starlette==0.48.0 structlog==25.4.0 universal-pathlib==0.2.6
COMPAT := tests/airflow/test_authoring.py tests/airflow/test_partitions.py tests/airflow/test_runs.py tests/airflow/test_told.py tests/airflow/test_provider.py tests/airflow/test_connection_types.py tests/airflow/test_scheduler.py tests/browser
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo test faults check compat bench images ui clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Windrow needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Fix: make PYTHON=python3.12 install") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch==2.13.0
	$(PIP) install --quiet -c constraints.txt -e '.[airflow,bigquery,celery,clickhouse,ctranslate2,databricks,delta,ducklake,iceberg,images,onnxruntime,openlineage,openvino,postgres,redshift,s3,sentencepiece,snowflake,dev]'
	@touch $@

install: $(READY)  ## Make .venv with Windrow, Airflow and the tools, versions pinned

demo: install  ## Run the review Dag in a real Airflow and show the table it made
	$(BIN)/windrow demo

test: install  ## Run all tests (what CI runs)
	$(TESTS)

faults: install  ## Run the fault suite whole: 1,000 kills at random moments, every point both ways (long)
	WINDROW_FAULT_KILLS=1000 $(TESTS) tests/faults tests/warehouses

check: install  ## Lint, types, formatting and tests: run it before a commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TESTS)

compat:  ## Run Airflow's tests on the oldest Airflow that Windrow takes, in a .venv of its own
	$(PYTHON) -m venv $(OLDEST)
	grep -v -i -E '^(apache-airflow|cadwyn|fastapi|pydantic|pyjwt|starlette|structlog|universal.pathlib)' constraints.txt > $(OLDEST)/constraints.txt
	printf '%s\n' $(OLD_PINS) >> $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip --disable-pip-version-check install --quiet -c $(OLDEST)/constraints.txt torch==2.13.0
	$(OLDEST)/bin/python -m pip --disable-pip-version-check install --quiet -c $(OLDEST)/constraints.txt -e '.[airflow,delta,ducklake,iceberg,openlineage,postgres,dev]' wtforms
	$(OLDEST)/bin/python -m pytest $(COMPAT)

bench: install  ## Compare with the pipeline, CrossEncoder, Ray, Daft, generate and CTranslate2; then reuse, scale, the plan and publishing
	$(PIP) install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.reuse
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.plot
	$(BIN)/python -m benchmarks.estimate
	$(BIN)/python -m benchmarks.publish

images: install  ## Carry out the Dockerfiles on empty root file systems, as root on Debian (needs debootstrap)
	WINDROW_IMAGES=1 $(BIN)/python -m pytest tests/docker/test_install.py

ui: install  ## Start Airflow's web page on the demo's home, and print a login
	$(BIN)/windrow demo --ui

clean:  ## Remove .venv and caches; runs and tables stay
	rm -rf $(VENV) $(OLDEST) .mypy_cache .ruff_cache .pytest_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
