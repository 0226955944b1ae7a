# `make help` lists the verbs. Everything is installed into .venv; nothing else is touched.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
BROKERS_STAMP := $(VENV)/.brokers-installed

# Processes that share the tests; those with real processes wait a good part of their time.
WORKERS ?= 2
SLOW_WORKERS ?= 3

# The tests start hundreds of processes: none of them shall compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test coverage check integration kafka bench bench-check lint types format wheel clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

demo: $(STAMP) ## import into a sandbox with faults, be killed half way, go on, and show the balance
	$(BIN)/python examples/demo.py

test: $(STAMP) ## run the tests (all but the slow ones with real processes)
	$(BIN)/pytest -q -n $(WORKERS) -m "not integration"

coverage: $(STAMP) ## full coverage of the core by its own tests, with few examples, always the same
	$(BIN)/pytest -q -n $(WORKERS) -m "not integration and not simulation" \
	    --hypothesis-profile=few --cov --cov-report=term \
	    $(addprefix --ignore=tests/,cli integration sandbox sources state)

check: lint types test coverage ## what CI runs: format, lint, types, tests, full coverage of the core

integration: $(BROKERS_STAMP) ## run the slow tests: real processes, real sockets, faults
	$(BIN)/pytest -q -m "integration and alone" tests/integration
	$(BIN)/pytest -q -n $(SLOW_WORKERS) -m "integration and not alone" tests/integration

kafka: $(STAMP) ## serve a broker of Kafka on 127.0.0.1:9092 until Ctrl-C (fetches it; needs Java and Maven)
	$(BIN)/python -m tests.integration.brokers

bench: $(BENCH_STAMP) ## measure beside the limit and what people use (BENCH="--quick --plots DIR" adds options)
	$(BIN)/python -m benchmarks $(BENCH)

bench-check: $(BENCH_STAMP) ## fail where a ratio fell by more than a third against benchmarks/recorded.json
	$(BIN)/python -m benchmarks --check $(BENCH)

lint: $(STAMP) ## check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## check types
	$(BIN)/mypy

format: $(STAMP) ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(STAMP) ## build the wheel and the sdist into dist/
	$(BIN)/python -m build

clean: ## remove what was built and cached; the virtual environment stays
	rm -rf dist build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find ingest tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# pip reads dependency groups since 25.1; where it cannot be upgraded, the names are read for it.
GROUPS := test lint build
OURS := -e '.[cli,files,remote,kafka,sqs]'
define install
	if $(BIN)/python -m pip install --help | grep -q -- --group; then \
	    $(BIN)/python -m pip install --quiet $(1) $(addprefix --group ,$(2)); \
	else \
	    $(BIN)/python -c 'import sys, tomllib; groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]; print(*(need for name in sys.argv[1:] for need in groups[name]), sep="\n")' $(2) > $(VENV)/groups.txt \
	    && $(BIN)/python -m pip install --quiet $(1) -r $(VENV)/groups.txt; \
	fi
endef

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" || true
	$(call install,$(OURS),$(GROUPS))
	touch $(STAMP)

# Only for the queue that is served to the slow tests.
$(BROKERS_STAMP): $(STAMP)
	$(call install,,brokers)
	touch $(BROKERS_STAMP)

# Only for what we are compared with.
$(BENCH_STAMP): $(STAMP)
	$(call install,,bench)
	touch $(BENCH_STAMP)
