# Everything a developer or a newcomer types. `make` alone lists it.
# All of it works as root and as an ordinary user, and nothing is installed outside .venv.

.DEFAULT_GOAL := help
.PHONY: help setup demo up check docs reference test test-unit coverage chaos bench bench-engine bench-gpu kill-intakes kill-couriers azurite clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

help: ## List what can be made
	@echo "Renderfarm. make ..."
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv; instant when nothing has changed
	@:

demo: setup ## Start a farm, render 16 prompts into demo/, stop it again (KEEP=1: leave it up)
	@$(BIN)/python demo.py

up: setup ## Start the whole farm here until Ctrl-C (ARGS="--port 0 --workers 2" reaches it)
	@exec $(BIN)/renderfarm up $(ARGS)

check: setup ## Lint, format, types, import directions, prose, and links of the pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m bin.check_prose
	$(BIN)/python -m bin.check_docs

docs: setup ## Build the documentation site into site/; broken links and orphan pages fail
	$(BIN)/python -m bin.check_docs
	$(BIN)/python -m bin.build_docs

# The queues' tests wait for leases most of the time, so they wait side by side.
WAITING := tests/contract tests/emulators
QUICK := tests/unit/app tests/unit/queues tests/unit/renderfarm
# The tests of the modules that [tool.coverage.run] names.
DECIDING := $(addprefix tests/unit/app/,dispatch intake jobs webhooks) \
  $(addprefix tests/unit/workers/engine/,test_policy.py test_cost.py test_memory.py) \
  tests/unit/workers/tune/test_search.py --deselect tests/unit/workers/tune/test_search.py::test_doctor_tunes_a_model

test: setup ## Run the tests (ARGS="-k courier" reaches pytest)
ifdef ARGS
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(ARGS)
else
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 5 --dist loadscope $(WAITING)
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --durations 25 $(WAITING:%=--ignore=%)
	@$(MAKE) --no-print-directory coverage
endif

# No server, no model and no subprocess farm: what a change to plain code needs after each save.
test-unit: setup ## Run the quick unit tests only, in less than half a minute
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(QUICK) $(ARGS)

coverage: setup ## Try every branch of the modules that decide; less than 100 % fails
	@mkdir -p var
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q $(DECIDING)
	@$(BIN)/python -m coverage report

reference: setup ## Write the reference pages that are generated from the code
	@$(BIN)/python -m docs.generate

chaos: setup ## The chaos runs at full length, for an hour (ARGS="R1 R5": some); report in bench/results
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.chaos $(ARGS)

bench: setup ## Measure the farm on this machine, next to a hand-made app (ARGS="--help")
	@$(BIN)/python -m bench $(ARGS)

kill-intakes: setup ## Kill intake at 8 points, 20 times each, on each queue service (about an hour; ARGS="--times 2")
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.integration.intake.killed_intakes_long $(ARGS)

kill-couriers: setup ## Deliver 5,000 webhooks while couriers are killed (about 5 minutes; ARGS="--webhooks 500")
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.integration.courier.killed_couriers_long $(ARGS)

azurite: ## Install Microsoft's Azurite (npm, 365 MB) into .azurite, for the tests of Azure Blob; they skip without it
	@npm install --prefix .azurite --no-audit --no-fund azurite@3.37.0

bench-engine: setup ## Replay traces under the engine's policy and its rivals (ARGS="--help")
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m bench.engine $(ARGS)

bench-gpu: setup ## Measure models of full size, random weights, on the GPU at hand (ARGS="--help")
	@HF_HUB_OFFLINE=1 $(BIN)/python -m bench.gpu device steps latency alone exact strategies --graphs $(ARGS)

clean: ## Remove what can be made again: .venv, demo/, site/, caches. The data in var/ stays
	rm -rf .venv demo dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# torch comes first and by itself, so that the build of 2.13.0 that pip finds is the
# one that the rest is resolved against: a CPU build stays a CPU build.
$(STAMP): pyproject.toml constraints.txt bin/renderfarm bin/build_hook.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "setup: $(PYTHON) must be Python 3.11 or newer, and is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "       Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "setup: this Python cannot make virtual environments." >&2; \
	  echo "       On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup 1/4: a virtual environment in .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt pip
	@echo "setup 2/4: torch (the largest part: 200 MB without CUDA, 3 GB with it)"
	@$(BIN)/python -m pip install -c constraints.txt torch
	@echo "setup 3/4: everything else"
	@$(BIN)/python -m pip install -c constraints.txt --group all
	@echo "setup 4/4: renderfarm itself, editable"
	@$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e .
	@touch $@
	@echo "setup: done. Next: make demo, or make up"
