# `make test` checks everything, `make run` does the main job; both set up what they need from a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# the tests start the program hundreds of times: it must not compile all of itself each time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup test check lint types layers unit run bench fuzz docs lock clean torture soak planted

setup: $(STAMP)

$(STAMP): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "esb needs Python 3.11 or newer; set PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(BIN)/python -m examples.demo.secrets
	@touch $(STAMP)

test: check unit

check: lint types layers

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/python -m pytest

run: setup
	$(BIN)/python -m examples.demo.run

bench: setup
	$(BIN)/python -m benchmarks

# the attacks of tests/torture in full: 500 kills, every system call, a thousand power cuts; about an hour
torture: setup
	ESB_TORTURE=long $(BIN)/python -m pytest tests/torture

# bugs planted in copies of the source; each must be found
planted: setup
	$(BIN)/python -m tests.torture.planted

# steady load with an eye on memory: make soak MINUTES=60
MINUTES ?= 60
soak: setup
	$(BIN)/python -m tests.torture.soak --minutes $(MINUTES)

# MINUTES for each target; TARGETS="json route" names some
fuzz: setup
	$(BIN)/python -m tests.fuzz $(TARGETS) --minutes $(or $(MINUTES),1)

docs: setup
	$(BIN)/python -m tests.docs.generate

lock: setup
	$(BIN)/python -m pip freeze --exclude-editable > requirements-dev.txt

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
