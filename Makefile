PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: bench bench-full demo test test-full lint clean

# One stamp for the whole environment: remade when the dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## an unregularized GAN falls, a regularized one stands (under 5 minutes)
	$(BIN)/steadygan demo

test: $(VENV)/.installed  ## everything that runs in minutes
	$(BIN)/python -m pytest -n auto --dist loadfile

test-full: $(VENV)/.installed  ## with the long products and reproductions
	$(BIN)/python -m pytest -m '' -n auto --dist loadfile

# One thread, so that CPU time is wall time on a quiet machine; run it on one.
bench: $(VENV)/.installed  ## how fast: targets and figures into docs/benchmarks.md (5 to 7 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --quick

bench-full: $(VENV)/.installed  ## the same with all penalties, growth and larger fleets
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --full

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs
