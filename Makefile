# TrialOps: `make` alone lists what can be done. Every target sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
TOOLS := build/tools
DEMO_HOME ?= .trialops/demo
SUBJECTS ?= 1000

# Bytecode is wanted: without it every step compiles its libraries again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup tools demo test lint types compile golden-update anchors bench docs docs-check images images-test cluster component pipeline clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

setup: .venv/.ready ## Make .venv from uv.lock

.venv/.ready: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "TrialOps needs Python 3.11: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv sync --frozen --quiet
	@touch $@

tools: $(TOOLS)/.ready ## Install what some tests run beside the project: checkov, Spark, CycloneDX (tests/tools.txt)

# An environment of its own: their dependencies must not meet the project's.
$(TOOLS)/.ready: tests/tools.txt .venv/.ready
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TOOLS)
	@$(BIN)/uv pip install --quiet --python $(TOOLS)/bin/python -r tests/tools.txt
	@touch $@

demo: setup ## Run the main job on a synthesized trial and print the link to its page
	@$(BIN)/trialops --home $(DEMO_HOME) demo --subjects $(SUBJECTS)

test: setup ## Run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## Check types
	@$(BIN)/mypy

compile: setup ## Compile every pipeline: IR and Kubernetes manifests below build/
	@$(BIN)/trialops compile --out build

golden-update: setup ## Accept the pipelines' present structure as right
	@TRIALOPS_UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/compile

anchors: setup ## Run the tests against public reference data (TRIALOPS_ANCHORS)
	@$(BIN)/python -m pytest tests/anchors -rs

bench: setup ## Measure what docs/performance.md and docs/validation state (an hour on a quiet machine)
	@$(BIN)/python -m benchmarks.local_run --subjects $(SUBJECTS) --repeats 3
	@$(BIN)/python -m benchmarks.synthesize --subjects 1000 10000
	@for name in xport fhir_intake fhir_to_omop quality deidentify_text external_data data_pipeline \
	  features point_in_time online_lookup materialize search fairness drift serving router; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: setup ## Generate the reference pages from the catalogue, the command line and the settings
	@$(BIN)/python -m pipelines.reference docs/reference

docs-check: setup
	@$(BIN)/python -m pipelines.reference docs/reference --check

images: ## Build the images with docker or podman (docker/build.sh)
	@docker/build.sh

images-test: images setup ## Run what can be shown of built images
	@TRIALOPS_REQUIRE_IMAGES=1 $(BIN)/python -m pytest tests/images

cluster: setup ## Bring up a kind cluster with the platform (needs Docker)
	@manifests/cluster/up.sh

component: setup ## New component: make component AREA=safety NAME=grade_events
	@$(BIN)/trialops component $(NAME) --area $(AREA)

pipeline: setup ## New pipeline: make pipeline CATEGORY=clinical_data NAME=trial_enrollment
	@$(BIN)/trialops pipeline $(NAME) --category $(CATEGORY)

clean: ## Remove what was built; keeps .trialops
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
