# `make run` and `make test` do everything from a fresh clone: virtual environment, packages, then the work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A file of tests to a process, three of which share two cores, for many tests wait. One that ends its process, or hangs
# and is ended (pyproject.toml), is tried anew in another; two more of those are enough to tell.
SPREAD := -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 2

.PHONY: run test coverage test-oldest lint docs package setup clean

run: $(STAMP)
	$(BIN)/evalsuite run quick --out runs/quick --workers 0

test: lint
	$(BIN)/pytest $(SPREAD)

# Apart, for measuring takes a third longer than testing.
coverage: $(STAMP)
	$(BIN)/pytest $(SPREAD) --cov --cov-report=term --cov-fail-under=90

# The tests with the lowest versions that pyproject.toml admits, in an environment of their own.
test-oldest:
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt --editable '.[all,test]'
	.venv-oldest/bin/pytest $(SPREAD)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Source and wheel, and the wheel tried as a stranger would: an environment of its own, an empty folder, a short study.
package:
	rm -rf dist build/package
	$(PYTHON) -m venv build/package
	build/package/bin/python -m pip install --quiet --disable-pip-version-check build twine
	build/package/bin/python -m build --outdir dist
	build/package/bin/python -m twine check --strict dist/*
	build/package/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	mkdir build/package/empty
	cd build/package/empty && ../bin/evalsuite run quick --set stream.images=20 --workers 0

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

setup: $(STAMP)

# Installed again only where what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest runs build dist site *.egg-info
