# Run `make` for the list of targets.
PYTHON ?= python3
SCALE ?= quick
PIPELINE := $(if $(filter gpu,$(SCALE)),dvc.yaml,pipelines/$(SCALE)/dvc.yaml)
INSTALLED := .venv/.installed
RUN := @. .venv/bin/activate;

export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifeq ($(wildcard $(PIPELINE)),)
$(error SCALE=$(SCALE) is unknown; allowed: quick, cpu, gpu, paper)
endif

.PHONY: help repro report page replicate test soak light wheel lint typecheck format

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

repro: $(INSTALLED)  ## Train what SCALE lacks (quick, cpu, gpu or paper; quick if not given), then report
	$(RUN) dvc repro $(PIPELINE)
ifeq ($(SCALE),quick)
	@echo "These runs: results/quick/REPORT.md. What is on record: REPORT.md"
else
	$(RUN) python -m replication
endif

report: $(INSTALLED)  ## Rebuild tables, figures and REPORT.md from the records alone; print the verdicts
	$(RUN) python -m replication

page: $(INSTALLED)  ## Write the results page from the records alone: site/index.html, one file that works offline
	$(RUN) python -m replication page

replicate: $(INSTALLED)  ## Run the full replication, with CLUSTER=slurm.yaml by jobs; without a GPU, say what it would take
	$(RUN) python -m replication replicate $(if $(CLUSTER),--cluster '$(CLUSTER)')

test: $(INSTALLED)  ## Run the tests
	$(RUN) pytest -n auto --dist worksteal

soak: $(INSTALLED)  ## Kill sweeps a thousand times at random moments; compare their records with undisturbed ones
	$(RUN) python tests/soak.py

light: $(INSTALLED)  ## Measure what light commands cost, on the committed records and on 10,000
	$(RUN) python tests/light.py

wheel: $(INSTALLED)  ## Build the wheel and use it with its core dependencies alone, from an empty folder
	$(RUN) .ci/wheel

lint: $(INSTALLED)  ## Check the style, that imports go one way, and CITATION.cff
	$(RUN) ruff check && ruff format --check && lint-imports --no-cache && cffconvert --validate

typecheck: $(INSTALLED)  ## Check the types
	$(RUN) mypy

format: $(INSTALLED)  ## Format the code, and mend what can be mended by itself
	$(RUN) ruff check --fix && ruff format

$(INSTALLED): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; give Python 3.11 or newer as PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) -V 2>&1) is too old; give Python 3.11 or newer as PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) lacks its venv module (on Debian: apt install python3-venv)" >&2; exit 2; }
	@echo "Installing into .venv: a few minutes, some 5 GB where torch comes with CUDA"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -c constraints.txt -e '.[all]'
	@touch $@
