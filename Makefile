# make demo: the whole study on the embedded cohort. make docs: the documentation site in build/site, offline.
# make test-slurm: a real Slurm on this machine for its tests; no part of make test.
# make test-mount: two nodes on slow mounts of one folder (FUSE, root); no part of make test.
# make check: linter, types, import rules, fast tests; before every commit. make test: all of it, slow tests too.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A process for each core and one more, as tests wait for processes and browsers of theirs; 5 at most, of one thread.
# Compiled modules are kept, as tests start many processes; a file's tests stay together, files with slow tests come first.
# Fast tests wait for nothing: one process for each core.
CORES := $(shell $(PYTHON) -c "import os; print(min(os.cpu_count(), 4))")
WORKERS := $(shell $(PYTHON) -c "import os; print(min(os.cpu_count() + 1, 5))")
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile \
	--no-loadscope-reorder

.PHONY: demo check test test-slurm test-mount lint browser docs clean

demo: $(VENV)/.installed
	$(BIN)/medi demo

check: lint
	$(PYTEST) --numprocesses $(CORES) -m "not slow"

test: lint browser
	$(PYTEST)

test-slurm: $(VENV)/.installed-dev
	@command -v munged >/dev/null && command -v slurmctld >/dev/null || { [ "$$(id -u)" = 0 ] && \
		command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq slurm-wlm munge >/dev/null; } || true
	@OMP_NUM_THREADS=1 tests/slurm/slurm.sh build/slurm $(BIN)/python -m pytest tests/slurm --exitfirst || \
		{ code=$$?; [ $$code = 77 ] && echo "the tests of Slurm are skipped" || exit $$code; }

test-mount: $(VENV)/.installed-dev
	@command -v fusermount3 >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq fuse3 >/dev/null; } || true
	MEDI_MOUNT=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/mount --exitfirst

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

browser:
	@command -v chromedriver >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; } || \
		echo "no chromium: browser tests are skipped"

docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --strict --quiet
	@echo "the site: build/site/index.html"

# uv installs in a third of pip's time. pip installs where uv is missing, or was not told where the packages are.
install = { $(BIN)/python -m pip install --quiet --constraint constraints.txt uv && \
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable $(1); } || \
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable $(1)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,.)
	touch $@

# Of 20,000 modules the tests import a fifth: these are compiled when they are imported, and not all by pip; once, by tests
# that are collected beside the linter, and not by every process of tests at the same time.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,".[dev]")
	touch $@ $(VENV)/.installed
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 &

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
