# What one can do here. Each target sets up what it needs in .venv; nothing has to be prepared.

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
LISTEN ?= 127.0.0.1:1080

.PHONY: help proxy test check format bench bench-peers docs clean
.DEFAULT_GOAL := help

help: ## list what one can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

proxy: $(VENV)/.core ## start the SOCKS proxy (LISTEN=127.0.0.1:1080)
	@$(BIN)/netnet proxy --listen $(LISTEN)

test: $(VENV)/.dev ## run the whole test suite (ARGS="-k name" for a part)
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## linter, formatter's check, strict type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format .

bench: $(VENV)/.bench ## measure against the others, with a report (ARGS="echo --quick")
	@$(BIN)/netnet bench run $(ARGS)

bench-peers: $(VENV)/.bench ## install what the bench compares with, from PyPI and Debian
	@$(BIN)/netnet bench peers --install

docs: $(VENV)/.core ## write the documentation pages that are made from the code
	@$(BIN)/netnet sockopts --markdown > docs/options.md
	@$(BIN)/python -m netnet.proxy.reference docs/proxy.md packaging/netnet.toml

clean: ## remove what make has made
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "netnet needs Python 3.11 or later; install it, or say PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "could not make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "installing netnet into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing netnet and what its tests need into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "installing netnet and what it is compared with into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@
