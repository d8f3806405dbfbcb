# Two commands set up everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Of the tests, each on one thread and some 2 GB; 0: none of their own.
PROCESSES ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check evidence clean

# --- Environments: a stamp a set of extras, made anew when pyproject.toml changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[export,calibrate]'
	touch $@

$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev,camera,phone,executorch,coreml,stickers,evaluate,calibrate,rivals]'
	-$(PIP) --editable '.[rtx]' || echo 'TensorRT-RTX has no wheel here: its proxy build is not tested'
	touch $@

demo: $(VENV)/demo.stamp  ## Export the bundled model and caption held-out pictures
	$(BIN)/mue-edge demo

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check  ## Lint, types, tests
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadgroup --no-loadscope-reorder

evidence: $(VENV)/test.stamp  ## The long proofs; resumes where it was stopped
	$(BIN)/python tools/evidence.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
