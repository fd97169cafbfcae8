SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
# The address of an engine that answers: installed and started where that is possible.
ENGINE = DOCKER_HOST="$$($(PYTHON) scripts/engine start)"; export DOCKER_HOST
# What test images are made of, and what the tests have at the other end of a wire.
IMAGES = scripts/tools /usr/bin/python3=python3
TOOLS = $(IMAGES) sshd=openssh-server ssh=openssh-client git=git curl=curl
# The slow tests look at us as a browser and as an auditor of TLS would.
MORE_TOOLS = $(TOOLS) chromium=chromium sslscan=sslscan

.PHONY: help setup demo run test core e2e bench bench-proxy bench-api fuzz check fix engine engine-stop clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with the pinned packages (only when they changed)
	@scripts/setup

demo: setup ## Show the whole story on this machine in about two minutes
	@$(IMAGES); $(ENGINE); $(PYTHON) scripts/demo

run: setup ## Run the service here, on ./desired and port 3000
	@$(ENGINE); exec $(PYTHON) -m controller serve

test: check ## Lint, types, floors and every test but the slow ones
	@$(TOOLS); $(ENGINE); $(PYTEST) --need-engine -m "not slow" -n 3 --dist loadfile

core: setup ## Of the slow tests, those of the README's promises: CI runs them
	@$(TOOLS); $(ENGINE); $(PYTEST) --need-engine -m "core" -n 2 --dist loadfile

e2e: setup ## The slow tests: whole service, real engine, faults
	@$(MORE_TOOLS); $(ENGINE); $(PYTEST) --need-engine -m "slow" -n 2 --dist worksteal

bench: setup ## From a changed spec to the first answer of the new version
	@$(IMAGES); $(ENGINE); $(PYTHON) benchmarks/first_answer.py

bench-proxy: setup ## Requests a second and latency of the proxy beside its peers
	@$(IMAGES); $(ENGINE); $(PYTHON) benchmarks/proxy.py

bench-api: setup ## The list of a hundred apps
	@$(IMAGES); $(ENGINE); $(PYTHON) benchmarks/many_apps.py

fuzz: setup ## Random requests, specs and rollouts, for minutes
	@FUZZ=10 $(PYTEST) -m "fuzz" -n 2 --dist worksteal

check: setup ## Ruff, mypy and the floors between the rooms
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(PYTEST) -q tests/test_rooms.py

fix: setup ## Let Ruff mend and format what it can
	@$(PYTHON) -m ruff check --fix-only --quiet .
	@$(PYTHON) -m ruff format .

engine: setup ## Make sure that a Docker engine answers and print its address
	@$(PYTHON) scripts/engine start

engine-stop: setup ## Stop the engine that make started (never another one)
	@$(PYTHON) scripts/engine stop

clean: ## Remove .venv, caches and build output
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
