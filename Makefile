# make help lists the targets.
#
# PYTHON=python3.12   another interpreter      EXTRAS=cuda13   accelerator support (cuda13 or tpu)
# VENV=path           an environment of your own: it is used as it is, and nothing is installed
# PRESET=quick        of figure 4: quick (seconds), film, paper (the default) or full, in results/figure4-quick.png
PYTHON ?= python3
EXTRAS ?=
PRESET ?=
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

space := $(subst ,, )
comma := ,
extras := $(strip $(subst $(comma),$(space),$(EXTRAS)))
ifeq ($(origin VENV), undefined)
  # One environment for every interpreter and set of extras, so that none is ever half of another.
  VENV := .venv$(addprefix -,$(filter-out python3,$(subst /,-,$(PYTHON))))$(addprefix -,$(subst $(space),-,$(extras)))
  core := $(VENV)/.core
  dev := $(VENV)/.dev
  docs := $(VENV)/.docs
endif
RUN := "$(VENV)/bin/python"

# What a results file depends on; the other modules only draw, tell or check it.
TRAINING := $(filter-out $(patsubst %,polyjax/%.py,__init__ __main__ cell content export labels phases plot summary),$(wildcard polyjax/*.py)) \
  polyjax/embedding/capacity.py \
  $(wildcard polyjax/toy/*.py polyjax/engine/*.py polyjax/engine/fused/*.py) \
  $(filter-out polyjax/runs/verification.py polyjax/runs/comparison.py,$(wildcard polyjax/runs/*.py))
# An unfinished run is continued; results that are out of date are discarded.
SWEEP = $(RUN) -m sweeps.$(1) $(if $(wildcard $@),--restart)
DRAWING := polyjax/plot.py $(wildcard polyjax/draw/*.py polyjax/embedding/*.py polyjax/theory/*.py) figures/drawing.py

# Figure 4 of another preset is beside that of the paper.
FIGURE4 := results/figure4$(PRESET:%=-%)
# Figures that need no training, and figure 7's panels.
PLAIN := 1 2 3 5 6
PANELS := $(foreach row,redwood-%-6in3 anthropic-%-6in3 anthropic-%-6in5,$(patsubst %,$(row),square relu gelu))
PANEL_FILES := $(PANELS:%=results/figure7/%.npz)
CRITICAL := $(patsubst %,results/critical_point/%.npz,sampled expected descent adam)
# The experiments of Elhage et al. 2022.
ELHAGE := phases-2in1 phases-3in2 features-80in20 features-400in30 blocks pairs-4in2 absolute-100in40
ELHAGE_FILES := $(ELHAGE:%=results/elhage/%.npz)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' Makefile

.PHONY: venv
venv: $(core) $(dev) ## make the virtual environment, with the development tools

# An environment of your own, whose path may have spaces, is no target.
ifdef core
$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.$(if $(extras),[$(subst $(space),$(comma),$(extras))])'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[$(subst $(space),$(comma),$(sort dev $(extras)))]'
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[$(subst $(space),$(comma),$(sort docs $(extras)))]'
	@touch $@
endif

.PHONY: figures
figures: figure1 figure2 figure3 figure4 figure5 figure6 figure7 figure8 order-parameter boundaries unequal critical-point definitions block-sizes elhage ## all of them

.PHONY: figure1 figure2 figure3 figure5 figure6
figure1: results/figure1.png ## rotated against non-orthogonal embeddings
figure2: results/figure2.png ## marginal loss reduction and the optimal allocation of capacity
figure3: results/figure3.png ## the two toy models
figure5: results/figure5.png ## an embedding matrix with two blocks
figure6: results/figure6.png ## capacities of example embeddings

$(PLAIN:%=results/figure%.png): results/%.png: figures/%.py $(DRAWING) | $(core)
	$(RUN) -m figures.$* --out results/$*

.PHONY: figure4
figure4: $(FIGURE4).png ## train and draw figure 4, the phase diagram beside the theory; PRESET=quick for a first look

$(FIGURE4).npz: sweeps/figure4.py $(TRAINING) | $(core)
	$(call SWEEP,figure4) $(PRESET:%=--preset %) --out $@

$(FIGURE4).png: $(FIGURE4).npz figures/figure4.py $(DRAWING) | $(core)
	$(RUN) -m figures.figure4 --results $< --out $(FIGURE4)

.PHONY: film
film: results/film.gif ## train figure 4 with snapshots, and show how the diagram forms

results/film.npz: sweeps/figure4.py $(TRAINING) | $(core)
	$(call SWEEP,figure4) --preset film --snapshots 60 --out $@

results/film.gif: results/film.npz figures/film.py $(DRAWING) | $(core)
	$(RUN) -m figures.film --results $< --out $@

.PHONY: figure7
figure7: results/figure7.png ## train and draw figure 7, nine phase diagrams of both models

$(PANEL_FILES): results/figure7/%.npz: sweeps/figure7.py $(TRAINING) | $(core)
	$(call SWEEP,figure7) --panel $* --out results/figure7

results/figure7.png: $(PANEL_FILES) figures/figure7.py $(DRAWING) | $(core)
	$(RUN) -m figures.figure7 --results results/figure7 --out results/figure7

.PHONY: figure8
figure8: results/figure8.png ## how many blocks trained embeddings have, and how large

results/figure8.png: $(PANEL_FILES) figures/figure8.py $(DRAWING) | $(core)
	$(RUN) -m figures.figure8 --results results/figure7 --out results/figure8

.PHONY: order-parameter
order-parameter: results/order_parameter.png ## the marginal loss across the transition, theory and training

results/order_parameter.png: $(FIGURE4).npz figures/order_parameter.py $(DRAWING) | $(core)
	$(RUN) -m figures.order_parameter --results $< --out results/order_parameter

.PHONY: boundaries
boundaries: results/boundaries.png ## the boundaries of phases, found with 2 % of 1000 x 1000 cells, beside the closed form

results/boundaries.npz: sweeps/boundaries.py sweeps/figure4.py $(TRAINING) | $(core)
	$(RUN) -m sweeps.boundaries --out $@

results/boundaries.png: results/boundaries.npz $(FIGURE4).npz figures/boundaries.py $(DRAWING) | $(core)
	$(RUN) -m figures.boundaries --results $< --figure4 $(FIGURE4).npz --out results/boundaries

.PHONY: unequal
unequal: results/unequal.png ## train features that differ in density, beside the theory

results/unequal.npz: sweeps/unequal.py $(TRAINING) | $(core)
	$(call SWEEP,unequal) --out $@

results/unequal.png: results/unequal.npz figures/unequal.py sweeps/unequal.py $(DRAWING) | $(core)
	$(RUN) -m figures.unequal --results $< --out results/unequal

.PHONY: critical-point
critical-point: results/critical_point.png ## train networks around the critical point: scaling and slowing down

$(CRITICAL): results/critical_point/%.npz: sweeps/critical_point.py $(TRAINING) | $(core)
	$(call SWEEP,critical_point) --panel $* --out results/critical_point

results/critical_point.png: $(CRITICAL) figures/critical_point.py $(DRAWING) | $(core)
	$(RUN) -m figures.critical_point --results results/critical_point --out results/critical_point

.PHONY: definitions
definitions: results/definitions.png ## two definitions of capacity, and what each of them tells of trained networks

results/definitions.png: $(PANEL_FILES) figures/definitions.py figures/usefulness.py figures/figure7.py $(DRAWING) | $(core)
	$(RUN) -m figures.definitions --results results/figure7 --out results/definitions

# Panels whose block sizes are looked at.
BLOCKS := redwood-abs redwood-relu anthropic-abs anthropic-relu anthropic-square-sizes anthropic-relu-sizes
BLOCK_FILES := $(BLOCKS:%=results/blocks/%.npz)

.PHONY: block-sizes
block-sizes: results/block_sizes.png ## what sets the size of blocks: activation, density, features and neurons

$(BLOCK_FILES): results/blocks/%.npz: sweeps/blocks.py $(TRAINING) | $(core)
	$(call SWEEP,blocks) --panel $* --out results/blocks

results/block_sizes.png: $(BLOCK_FILES) figures/blocks.py figures/sparse_limit.py $(DRAWING) | $(core)
	$(RUN) -m figures.blocks --results results/blocks --out results/block_sizes

.PHONY: elhage
elhage: results/elhage.png ## train and draw the experiments of Elhage et al. 2022

$(ELHAGE_FILES): results/elhage/%.npz: sweeps/elhage.py $(TRAINING) | $(core)
	$(call SWEEP,elhage) --panel $* --out results/elhage

results/elhage.png: $(ELHAGE_FILES) figures/elhage.py $(DRAWING) | $(core)
	$(RUN) -m figures.elhage --results results/elhage --out results/elhage

# The last line says where a picture is, also where there was nothing to do.
figure1 figure2 figure3 figure4 figure5 figure6 figure7 figure8 film order-parameter boundaries unequal critical-point definitions block-sizes elhage:
	@echo "$<"

.PHONY: gallery
gallery: figures ## make the small pictures that the README shows
	$(RUN) -m figures.gallery

.PHONY: docs
docs: $(docs) ## build the documentation, whose notebooks are executed (two to three minutes)
	$(RUN) -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Files in their order, since the longest are not the last.
PYTEST = $(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: test test-all
test: $(dev) ## run the tests that are fast
	$(PYTEST) -m "not slow" $(PYTEST_OPTIONS)

test-all: $(dev) ## run these and the slow ones (half an hour)
	$(PYTEST)

.PHONY: test-faults
test-faults: $(dev) ## kill, damage and starve real runs, and check that no result is ever wrong (half an hour)
	$(RUN) -m pytest tests/faults $(PYTEST_OPTIONS)

.PHONY: test-slow
test-slow: $(PANEL_FILES) | $(dev) ## compare figure 7 with the best minima known and with losses in double precision (five minutes)
	$(RUN) -m pytest tests/slow

.PHONY: check
check: $(dev) ## check format, lint and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

.PHONY: bench bench-accuracy
bench: $(core) ## measure throughput, memory and what it takes elsewhere, at small and large sizes (a quarter of an hour)
	$(RUN) -m benchmarks.throughput
	$(RUN) -m benchmarks.large --peers

bench-accuracy: $(core) ## measure how long training takes to the right phase diagram
	$(RUN) -m benchmarks.accuracy

.PHONY: clean
clean: ## remove the results and the environments
	rm -rf results docs/_build .venv .venv-* *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
