# Run `make` for the list of targets.
PYTHON ?= python3
SCALE ?= quick
PIPELINE := $(if $(filter gpu,$(SCALE)),dvc.yaml,pipelines/$(SCALE)/dvc.yaml)
INSTALLED := .venv/.installed
RUN := @. .venv/bin/activate;

export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifeq ($(wildcard $(PIPELINE)),)
$(error SCALE=$(SCALE) is unknown; expected: quick, cpu, gpu or paper)
endif

.PHONY: help repro report page replicate test slow soak light wheel lint typecheck format

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

repro: $(INSTALLED)  ## Train what is missing at SCALE (quick, cpu, gpu or paper; default: quick), then report
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

replicate: $(INSTALLED)  ## Run the full replication, as Slurm jobs with CLUSTER=slurm.yaml; without a GPU, show what it would take
	$(RUN) python -m replication replicate $(if $(CLUSTER),--cluster '$(CLUSTER)')

test: $(INSTALLED)  ## Run the tests, but for those that have to be slow
	$(RUN) pytest -n auto --dist worksteal -m 'not slow'

slow: $(INSTALLED)  ## Run the tests that have to be slow: every rule learns, its defects are noticed, jobs of Slurm, commands as typed
	$(RUN) pytest -n auto --dist worksteal -m slow

soak: $(INSTALLED)  ## Kill sweeps a thousand times at random moments; compare their records with uninterrupted ones
	$(RUN) python tests/soak.py

light: $(INSTALLED)  ## Measure the CPU time and memory of light commands, on the committed records and on 10,000
	$(RUN) python tests/light.py

wheel: $(INSTALLED)  ## Build the wheel and run it with only its core dependencies, from an empty folder
	$(RUN) .ci/wheel

lint: $(INSTALLED)  ## Check style, one-way imports and CITATION.cff
	$(RUN) ruff check && ruff format --check && lint-imports --no-cache && cffconvert --validate

typecheck: $(INSTALLED)  ## Check types with mypy
	$(RUN) mypy

format: $(INSTALLED)  ## Format the code and apply automatic fixes
	$(RUN) ruff check --fix && ruff format

$(INSTALLED): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; run make with PYTHON=... (3.11 or newer)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) -V 2>&1) is too old; run make with PYTHON=... (3.11 or newer)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) has no venv module (on Debian: apt install python3-venv)" >&2; exit 2; }
	@echo "Installing into .venv: a few minutes, about 5 GB if torch comes with CUDA"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -c constraints.txt -e '.[all]'
	@touch $@
