# Everything runs in a virtual environment of the project's own; Python and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8787
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: run test lint types bench crash docs format clean

# The guestbook: a real Worker with real bindings, its state kept in examples/guestbook/.bunflare.
run: $(VENV)/run.stamp
	@exec $(BIN)/bunflare dev --config examples/guestbook/wrangler.toml --port $(PORT)

# Two processes: what most tests wait for is another process or the disk.
test: $(VENV)/dev.stamp
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp
	$(BIN)/mypy

# Ratios against a floor measured in the same run; FILTER=kv runs a part of it.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks $(FILTER)

# Thousands of SIGKILLs, and minutes of many processes on one directory. Some 20 minutes.
crash: $(VENV)/dev.stamp
	BUNFLARE_CRASH=long $(BIN)/pytest tests/crash tests/bindings/test_workflow_model.py \
		tests/runtime/test_files_example.py tests/runtime/test_thumbnails_example.py

# What is generated from the code, and the site in site/, in which no link is dead.
docs: $(VENV)/dev.stamp
	$(BIN)/python -m tests.docs.generate
	$(BIN)/mkdocs build --quiet

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis site

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit("bunflare needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	@touch $@ $(VENV)/dev.stamp $(VENV)/run.stamp
