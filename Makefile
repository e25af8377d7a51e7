# `make help` lists what there is. Variables: make run PORT=8080 MLLP_PORT=2575 DATA=./data DEMO=1

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK = 1

PORT ?= 8080
MLLP_PORT ?= 2575
DATA ?= ./data
DEMO ?= 1
WORKERS ?= auto
SHARDS ?= 8

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-input --root-user-action=ignore
PACKAGES := $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml suite/pyproject.toml))
SOURCES := $(wildcard $(addsuffix /src,$(PACKAGES)))

.PHONY: help setup setup-dev run test check format docs bench proof crash-test up down clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "Variables: PORT=$(PORT) MLLP_PORT=$(MLLP_PORT) DATA=$(DATA) DEMO=$(DEMO) WORKERS=$(WORKERS) SHARDS=$(SHARDS)"

# ---- The environment: made anew only when a lock or a package's description changes.

setup: $(VENV)/.stamp-runtime ## prepare .venv with everything that is needed to run
	@$(if $(filter setup,$(MAKECMDGOALS)),echo "Ready: make run",:)

setup-dev: $(VENV)/.stamp-dev
	@:

$(BIN)/python:
	@python=$$(for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	    "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$name" && break; done); \
	if [ -z "$$python" ]; then \
	    echo "make: Python 3.11 or newer is needed, and none was found. Install it (Debian: apt-get install python3 python3-venv)." >&2; \
	    exit 1; fi; \
	echo "Making $(VENV) with $$($$python --version) ..."; \
	if ! "$$python" -m venv $(VENV) >$(VENV).log 2>&1; then \
	    echo "make: $$python has no venv module ($(VENV).log). Install it (Debian: apt-get install python3-venv)." >&2; \
	    rm -rf $(VENV); exit 1; fi; \
	rm -f $(VENV).log

$(VENV)/.stamp-runtime: requirements.lock $(addsuffix /pyproject.toml,$(PACKAGES)) | $(BIN)/python
	@echo "Installing what the suite needs (requirements.lock) ..."
	@$(PIP) --require-hashes -r requirements.lock
	@echo "Installing the packages of this checkout ..."
	@$(PIP) --no-deps --no-build-isolation $(addprefix -e ./,$(PACKAGES))
	@touch $@

$(VENV)/.stamp-dev: requirements-dev.lock $(VENV)/.stamp-runtime
	@echo "Installing what development needs (requirements-dev.lock) ..."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

# ---- Running

run: setup ## start everything on this machine; Ctrl-C ends it
	@exec $(BIN)/python -m suite --port $(PORT) --mllp-port $(MLLP_PORT) --data $(DATA) --demo $(DEMO)

up: .env ## the same on Kafka and PostgreSQL, in containers
	docker compose up --build --wait

.env:
	@umask 077; { echo "PS_KEY=$$(head -c 32 /dev/urandom | base64)"; \
	    echo "POSTGRES_PASSWORD=$$(head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n')"; } > $@
	@echo "Made .env: the key-encryption key and the database's password of the containers. Keep it with their volumes."

down: ## stop the containers; what they stored stays
	docker compose down

# ---- Testing

test: setup-dev ## run every test but the long proofs
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 -m "not proof"

check: setup-dev ## style, types and who may import whom
	@echo "ruff check";  $(BIN)/ruff check .
	@echo "ruff format"; $(BIN)/ruff format --check --quiet . || { echo "make: not formatted: make format" >&2; exit 1; }
	@echo "mypy";        $(BIN)/mypy $(SOURCES) tests/infrastructure tests/style $(wildcard bench)
	@echo "imports";     $(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter
	@echo "tests/style"; $(BIN)/python -m pytest -q tests/style

format: setup-dev ## rewrite the code in the house's format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: setup-dev ## write the generated documents anew
	@$(BIN)/python -m suite.documents

bench: setup-dev ## measure: one JSON line per figure
	@$(BIN)/python -m bench

# A shard that passed leaves a stamp and is not run again for the same sources, so an interrupted proof goes on.
PROOF = .cache/proof/$(shell { git rev-parse HEAD; git diff HEAD; git status --porcelain; } 2>/dev/null | cksum | cut -d' ' -f1)-of-$(SHARDS)

proof: setup-dev ## the long tests, in shards that are not repeated once they passed
	@directory=$(PROOF); mkdir -p "$$directory"; \
	for shard in $$(seq 1 $(SHARDS)); do \
	    if [ -e "$$directory/$$shard" ]; then echo "proof $$shard/$(SHARDS): done before"; continue; fi; \
	    echo "proof $$shard/$(SHARDS)"; \
	    $(BIN)/python -m pytest -m proof --shard "$$shard/$(SHARDS)"; code=$$?; \
	    if [ $$code -ne 0 ] && [ $$code -ne 5 ]; then exit $$code; fi; \
	    touch "$$directory/$$shard"; \
	done

# Goes on where it was interrupted; CRASH_DATABASE is the URL of an empty PostgreSQL database (SQLite when empty).
CRASHES ?= 300
CRASH_SEED ?= 0
CRASH_DATABASE ?=
CRASH_FOLDER ?= .cache/crash-test/$(CRASH_SEED)$(if $(CRASH_DATABASE),-postgresql)

crash-test: setup-dev ## kill -9 the HL7 gateway CRASHES times under load, and compare with a ledger
	@$(BIN)/python services/hl7-gateway/tests/crash_run.py $(CRASH_FOLDER) --crashes $(CRASHES) --seed $(CRASH_SEED) \
	    $(if $(CRASH_DATABASE),--database $(CRASH_DATABASE))

clean: ## remove environment, caches and builds; what a run stored stays
	@rm -rf $(VENV) $(VENV).log .cache .hypothesis build dist
	@find libs services suite tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
