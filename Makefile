# make help lists the targets.
#
# PYTHON=python3.12   another interpreter      EXTRAS=cuda13   accelerator support (cuda13 or tpu)
# VENV=path           an environment of your own: it is used as it is, and nothing is installed
PYTHON ?= python3
EXTRAS ?=
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

space := $(subst ,, )
comma := ,
ifeq ($(origin VENV), undefined)
  # One environment for every interpreter and set of extras, so that none is ever half of another.
  VENV := .venv$(addprefix -,$(filter-out python3,$(subst /,-,$(PYTHON))))$(addprefix -,$(subst $(comma),-,$(EXTRAS)))
  core := $(VENV)/.core
  dev := $(VENV)/.dev
endif
RUN := $(VENV)/bin/python

# What a results file depends on; the other modules only draw or check it.
TRAINING := $(addprefix polyjax/,capacity.py checks.py distributions.py evaluation.py lanes.py models.py results.py \
  sampling.py sweep.py training.py unroll.py)
DRAWING := polyjax/plotting.py polyjax/theory.py

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' Makefile

.PHONY: venv
venv: $(core) $(dev) ## make the virtual environment, with the development tools

$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[$(subst $(space),$(comma),$(strip dev $(EXTRAS)))]'
	@touch $@

.PHONY: figure4
figure4: results/figure4.png ## train and draw figure 4, the phase diagram beside the theory

results/figure4.npz: sweeps/figure4.py $(TRAINING) | $(core)
	$(RUN) -m sweeps.figure4 --out $@

results/figure4.png: results/figure4.npz figures/figure4.py $(DRAWING) | $(core)
	$(RUN) -m figures.figure4 --results $< --out results/figure4

.PHONY: test
test: $(dev) ## run the tests
	$(RUN) -m pytest

.PHONY: check
check: $(dev) ## check format, lint and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

.PHONY: bench
bench: $(core) ## measure throughput beside the usual formulation
	$(RUN) -m benchmarks.throughput

.PHONY: clean
clean: ## remove the results and the environments
	rm -rf results .venv .venv-* *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
