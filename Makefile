# make reproduce: everything, from a fresh clone to tables.   make test: the tests.   Needs Python 3.11 to 3.13.
# make reproduce TIER=smoke MIRROR=/path/to/raw/files CORES=4 SEEDS=1 PYTHON=python3.12
PYTHON ?= python3
TIER ?= quick
MIRROR ?=
CORES ?= all
SEEDS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Read by people and programs alike: the folder below which this run lies.
RUN = results/$(TIER)

.PHONY: reproduce test test-dvc lint clean

reproduce: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --config tier=$(TIER) $(if $(MIRROR),mirror="$(MIRROR)") $(if $(SEEDS),seeds=$(SEEDS))
	@echo "tables: $(RUN)/tables"
	@echo "report: $(RUN)/report/index.html"

test: .venv/installed-tests
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile

# The pins through a DVC remote; DVC brings a hundred packages, so `make test` does without.
test-dvc: .venv/installed-tests
	$(PIP) -e ".[test,data]"
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest tests/bench/datasets/raw/test_dvc.py

lint: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv results data/prepared .snakemake .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "relaxbench: $(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

.venv/installed-tests: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[test]"
	@touch $@ .venv/installed
