# make demo      encode and decode two photographs, without torch
# make test      all tests
# make lint      style, types, and which modules may import which
# make coverage  the tests, and which lines of shcodec they reach; below the floor in pyproject.toml it fails
# make attacks   the long attacks: a million forged files, two hundred killed commands; see benchmarks/trust
#
# Each makes the environment that it needs on its first run. PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
# two processes of one thread each; at the end, why tests were skipped
PYTEST_ARGS ?= -q -n 2 --dist loadfile --durations=15 -rs

DEMO_VENV := .venv-demo
VENV := .venv
INSTALL := -m pip install --quiet --constraint constraints.txt
# sys.monitoring, which costs little, where the interpreter has it
COVERAGE_CORE = $(shell $(VENV)/bin/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
SOURCES := $(shell find shcodec models -type f ! -name '*.pyc' 2>/dev/null)

.PHONY: demo test lint coverage attacks clean

demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/python benchmarks/demo.py

ifdef COVERAGE
test: $(VENV)/.installed
	$(VENV)/bin/coverage erase
	OMP_NUM_THREADS=1 COVERAGE_CORE=$(COVERAGE_CORE) $(VENV)/bin/coverage run -m pytest $(PYTEST_ARGS)
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report
else
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(PYTEST_ARGS)
endif

coverage:
	$(MAKE) test COVERAGE=1

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

attacks: $(VENV)/.attacks
	OMP_NUM_THREADS=1 SHC_THREADS=1 $(VENV)/bin/python benchmarks/trust/attacks.py $(ATTACKS_ARGS)

clean:
	rm -rf $(DEMO_VENV) $(VENV) build dist demo .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The demo takes the package as a user would get it, so a changed source means a new installation.
$(DEMO_VENV)/.installed: $(DEMO_VENV)/pyvenv.cfg pyproject.toml constraints.txt README.md $(SOURCES)
	$(DEMO_VENV)/bin/python $(INSTALL) . scikit-image
	@touch $@

$(VENV)/.installed: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(VENV)/bin/python $(INSTALL) --editable '.[train,bench,dev]'
	@touch $@

$(VENV)/.attacks: $(VENV)/.installed
	$(VENV)/bin/python $(INSTALL) --editable '.[attacks]'
	@touch $@

%/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $*
	@touch $@

# An environment that was made once stays, even if it was made on the way to something else.
.PRECIOUS: %/pyvenv.cfg
