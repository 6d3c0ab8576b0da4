# Everything a newcomer needs: make demo, make test. Both set up .venv by themselves and do so again only when the lock changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(shell cat pyproject.toml requirements.lock | cksum | cut -d ' ' -f 1)

.PHONY: demo test nightly check bench lock clean

demo: $(READY)
	$(BIN)/vidmill demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What takes too long for every change: 20 random kill schedules, thousands of mutated clips, endless outages.
nightly: $(READY)
	$(BIN)/python -m pytest -m nightly

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench: $(READY)
	$(BIN)/python -m tests.bench.decode
	$(BIN)/python -m tests.bench.run
	$(BIN)/python -m tests.bench.isolation
	$(BIN)/python -m tests.bench.restore
	$(BIN)/python -m tests.bench.youtube8m

# torch comes first and alone, so that pip takes the build that fits the machine; everything else is exact and complete.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vidmill needs Python 3.11 or newer; name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	rm -f $(VENV)/ready-* && touch $@

# After changing pyproject.toml: resolve anew, then commit requirements.lock.
lock: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[demo,dev]'
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^torch==' > requirements.lock

clean:
	rm -rf $(VENV) vidmill-demo
