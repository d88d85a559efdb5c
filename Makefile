PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt --editable

.PHONY: bench bench-full demo docs test test-full lint clean

# One environment, and a stamp for each set of packages in it, remade when the dependencies change:
# what runs the programs, and on top of it what tests and lints, or what builds the documentation.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(INSTALL) '.[$*]'
	touch $@

demo: $(VENV)/.installed  ## an unregularized GAN falls, a regularized one stands (under 5 minutes)
	$(BIN)/steadygan demo

test: $(VENV)/.installed-dev  ## everything that runs in minutes
	$(BIN)/python -m pytest -n auto --dist loadfile

test-full: $(VENV)/.installed-dev  ## with the long products and reproductions
	$(BIN)/python -m pytest -m '' -n auto --dist loadfile

# One thread, so that CPU time is wall time on a quiet machine; run it on one.
bench: $(VENV)/.installed-dev  ## how fast: targets and figures into docs/benchmarks.md (5 to 7 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --quick

bench-full: $(VENV)/.installed-dev  ## the same with all penalties, growth and larger fleets
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --full

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## the documentation as a site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build runs
