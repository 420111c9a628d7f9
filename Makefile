# capacity: `make demo` shows it, `make test` proves it. Needs Linux, Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Compiled modules are kept, whatever the environment says: without them each process takes a second more to begin.
export PYTHONDONTWRITEBYTECODE :=
FAST := not devserver and not browser and not peer and not stack

.PHONY: setup demo test test-fast lab check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "capacity needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (once, about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt \
		--editable '.[devserver,lab,postgres,dev]'
	@touch $@

# The main job: a server, the tuning table of this machine, a batch, the server's own count of it.
demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" CAPACITY_STATE_DIR="$(CURDIR)/$(VENV)/demo" sh benchmarks/demo

# A test for each core, and each one's Go servers keep to one, which costs them a third less. What compares speeds
# comes last: two at a time where little goes on, else one by one.
AT_ONCE ?= $(shell $(PYTHON) -c 'import os; print(min(max(2, os.cpu_count() or 2), 4))')
test: setup
	$(BIN)/python -m pytest -n $(AT_ONCE) -m "$(FAST)"
	GOMAXPROCS=1 GOGC=400 $(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal -m "not ($(FAST)) and not alone and not calm"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m calm
	$(BIN)/python -m pytest -m alone

test-fast: setup
	$(BIN)/python -m pytest -n auto -m "$(FAST) and not slow"

lab: setup
	$(BIN)/jupyter lab --LabApp.news_url= notebooks

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" benchmarks/peer/build
	$(BIN)/python -m pytest benchmarks -o testpaths=benchmarks --benchmark-only
	$(BIN)/python benchmarks/launcher.py

clean:
	rm -rf $(VENV) build *.egg-info
