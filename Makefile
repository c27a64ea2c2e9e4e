# make demo      a complete run on the embedded sandbox, without an account
# make test      the quick tests; with SLOW=1 all tests
# make slow      only the slow tests: real servers, browsers, spreadsheet programs, killed workers
# make install   create .venv/bin/reelsheet
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := 1
export UV_NO_PROGRESS := 1

.PHONY: help install demo test slow lint types bench clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(BIN)/uv:
	@echo "The first time, about 150 packages (0.8 GB) are installed into $(VENV). That takes one to four minutes." >&2
	@scripts/counting "Creating $(VENV)" $(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	@scripts/counting "Installing uv" $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --no-deps -r $(VENV)/uv.txt

$(VENV)/.install: $(BIN)/uv requirements.lock pyproject.toml
	@scripts/counting "Installing packages" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraints requirements.lock --build-constraints requirements.lock --editable '.[postgres,redis,sandbox]'
	@touch $@

$(VENV)/.dev: $(VENV)/.install
	@scripts/counting "Installing packages for the tests" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--no-deps --require-hashes -r requirements.lock
	@touch $@

install: $(VENV)/.install

demo: $(VENV)/.install
	@$(BIN)/reelsheet demo

PYTEST := $(BIN)/python -m pytest --numprocesses 4 --dist loadscope
test slow: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.dev
	$(PYTEST) $(if $(SLOW),,-m "not slow")

slow: $(VENV)/.dev
	$(PYTEST) -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks --quick

clean:
	rm -rf out .mypy_cache .ruff_cache .pytest_cache .hypothesis
