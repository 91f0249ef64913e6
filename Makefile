# make demo   two services, two certificates, one UDP port: see it work (no root needed)
# make test   the whole test suite
# make lint   ruff, mypy --strict, import contracts
# make bench  the engine and the daemon, measured beside their peers
#
# Each makes the virtual environment that it needs, in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench clean

demo: $(VENV)/installed-aioquic
	@$(BIN)/python -m quic_tlshd.demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	$(BIN)/python -m tests.bench.bench_engine
	$(BIN)/python -m tests.bench.bench_daemon

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed-%: $(BIN)/python pyproject.toml
	@echo "Installing quic-tlshd and what it needs into $(VENV) ..."
	@$(BIN)/pip --quiet --disable-pip-version-check install --editable '.[$*]'
	@touch $@
