# `make run` and `make test` work from a bare checkout: each target first makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup run test check bench lock clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

run: setup  ## the gateway on :8080 before four simulated model servers
	$(BIN)/inferway serve --embedded

check: setup  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup  ## unit, property, integration and acceptance tests
	$(BIN)/pytest

bench: setup  ## replay real traffic with and without prefix routing
	$(BIN)/inferway demo

lock: setup  ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
