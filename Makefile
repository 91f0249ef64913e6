# make demo     two services, two certificates, one UDP port: see it work (no root needed)
# make test     the whole test suite
# make interop  the part of it that prints what works with OpenSSL, GnuTLS, NSS, Go, Node, aioquic, curl and Chromium
# make lint     ruff, mypy --strict, import contracts
# make test-vm  the scenarios that need a kernel which makes upcalls: NFS, NVMe and TCP, in a guest (root, qemu)
# make fuzz     a million inputs for each fuzz target (takes an hour or two)
# make bench    the engine and the daemon, measured beside their peers
# make bench-vm handshakes that the kernel asks for, beside tlshd's, in a guest under User-Mode Linux (root)
#
# Each makes the virtual environment that it needs, in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test interop test-vm lint fuzz bench bench-vm clean

demo: $(VENV)/installed-aioquic
	@$(BIN)/python -m quic_tlshd.demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

interop: $(VENV)/installed-interop
	$(BIN)/python -m pytest -q tests/interop/test_matrix.py

test-vm: $(VENV)/installed-dev
	$(BIN)/python -m tests.vm test

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/installed-fuzz
	$(BIN)/python -m tests.fuzz

bench: $(VENV)/installed-dev
	$(BIN)/python -m tests.bench.bench_engine
	$(BIN)/python -m tests.bench.bench_daemon

bench-vm: $(VENV)/installed-dev
	@uptime
	$(BIN)/python -m tests.vm run --uml --timeout 3600 -- python3 -m tests.bench.bench_kernel
	@uptime

clean:
	rm -rf $(VENV) build dist *.egg-info

# Without python3-venv Debian's python makes half of one, without pip.
$(BIN)/pip:
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# What pip says tells that something goes on: on a terminal in one line, all of it if it fails.
$(VENV)/installed-%: $(BIN)/pip pyproject.toml
	@echo "Installing quic-tlshd and what it needs into $(VENV) ..."
	@install="$(BIN)/pip --disable-pip-version-check install --progress-bar off --editable .[$*]"; \
	log=$(VENV)/install.log; \
	if [ -t 1 ]; then \
		{ $$install 2>&1 || echo "pip failed" >&3; } 3>$(VENV)/failed | tee $$log | \
			awk '{ printf "\r\033[K  %.70s", $$0; fflush() } END { printf "\r\033[K" }'; \
		[ ! -s $(VENV)/failed ] || { cat $$log; exit 1; }; \
	else \
		$$install; \
	fi
	@touch $@
