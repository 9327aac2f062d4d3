# The two commands: `make table` and `make test`. Both make their environment if it is missing.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready
# Jobs find their tools here, also where the environment isn't activated.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: table test test-fast test-slurm lint types docs format constraints environment
.DEFAULT_GOAL := table

table: environment ## The comparison table of the default experiment, results/table.md
	@snakemake --cores all results/table.md

test: environment ## The whole test suite
	# A file's tests stay together: many read one costly run. In their order: the long ones first.
	# -rs says which tests were skipped, and what they need.
	python -m pytest -rs -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-fast: environment ## Without the tests that start training processes
	python -m pytest -m "not processes"

test-slurm: environment ## A real two-node SLURM cluster on this Debian machine; as root
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[slurm]'
	tests/slurm/cluster.sh install
	@export SLURMLAB=$$(mktemp -d); trap 'tests/slurm/cluster.sh down; rm -rf "$$SLURMLAB"' EXIT; \
	  python -m pytest -o faulthandler_timeout=1800 tests/slurm/two_nodes.py

lint: environment ## Style of Python and Snakemake files
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	snakemake --lint --configfile configs/tiny.yaml

types: environment ## mypy --strict
	mypy

docs: environment ## The manual as pages, build/docs/index.html
	mkdocs build --strict

format: environment ## Mend what can be mended
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
	python -m mfm schema config.schema.json

constraints: ## Pin the newest versions that pyproject.toml allows
	$(PYTHON) -m venv $(VENV)-new
	$(VENV)-new/bin/pip install --editable '.[dali,dev,slurm]'
	(echo "# Every package of the environment that \`make\` installs, pinned. Made by \`make constraints\`."; \
	 $(VENV)-new/bin/pip freeze --exclude-editable) > constraints.txt
	rm -rf $(VENV)-new

environment: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mfm needs Python 3.11 or newer as python3; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 has no venv module; run: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dali,dev]'
	@touch $@
