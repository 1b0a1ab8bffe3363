# Needs Python 3.11 and make, nothing else. Every target installs what it needs into .venv first.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

.PHONY: help quickstart test lint bench docs clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 18

quickstart: $(VENV)/.quickstart  ## distil a real sentence encoder on this machine, with a report
	$(BIN)/python examples/run_recipe.py quickstart $(ARGS)

test: $(VENV)/.dev  ## run the tests, offline
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev  ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

bench: $(VENV)/.dev $(VENV)/.quickstart  ## compare speed with sentence-transformers, side by side
	$(BIN)/python benchmarks/sentence_distillation.py $(ARGS)

docs: $(VENV)/.docs  ## build the documentation as a site, docs/_build/index.html
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build $(ARGS)

clean:  ## remove the environment and build leftovers (runs/ stays)
	rm -rf $(VENV) build docs/_build *.egg-info

# torch comes first and pinned: asked for by a range, pip would fetch the newest CUDA build, several gigabytes.
$(VENV)/.base: constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.quickstart: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[quickstart]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@
