# `make run` and `make test` work from a bare checkout: each target first makes what it needs.
# Distributions build their Python with link-time optimisation: a tenth less CPU than most others.
PYTHON ?= $(shell for python in /usr/bin/python3 python3; do \
	"$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILED := build/compiled/.done
SOURCES := $(shell find gateway routing endpoints bench -name '*.py')

.PHONY: setup run test check rivals bench lab lab-test compile test-compiled lock clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

run: setup $(wildcard $(COMPILED))  ## the gateway on :8080 before four simulated model servers
	PYTHONPATH=$(dir $(abspath $(wildcard $(COMPILED)))) $(BIN)/inferway serve --embedded

compile: $(COMPILED)  ## the hot path as machine code, in build/compiled; needs a C compiler (COMPILE=--once: quicker)

$(COMPILED): compile.py $(SOURCES) | setup
	$(BIN)/python compile.py $(COMPILE)

test-compiled: compile  ## the tests of what is compiled
	PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/pytest tests/unit/gateway tests/unit/routing tests/property tests/integration

check: setup  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup  ## unit, property, integration and acceptance tests
	$(BIN)/pytest

rivals: setup  ## the gateways that `inferway bench overhead` compares ours with
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[rivals]'

bench: setup  ## replay real traffic with and without prefix routing
	$(BIN)/inferway demo

lab: setup  ## two real vLLM servers on this machine's processor, behind the gateway on :8080
	$(BIN)/inferway lab up

lab-test: setup  ## the tests that need them; they start them if nothing runs
	$(BIN)/pytest -m lab tests/lab

lock: setup  ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
