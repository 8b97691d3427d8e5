# `make run` and `make test` start from a bare checkout: Linux or macOS, Python 3.11 to 3.14.
# On Windows make.ps1 does the same.

PYTHON    := .venv/bin/python
PIP       := $(PYTHON) -m pip --disable-pip-version-check
CPU_INDEX := https://download.pytorch.org/whl/cpu
# `make wheels` fills the folder wheels/; where it lies, everything is installed from it alone.
WHEELS    := $(if $(wildcard wheels/*.whl),--no-index --find-links wheels)
NO_WHEELS := pip could not get the packages; on a machine without a network, install them from a folder of wheels, as docs/classroom.md says

.PHONY: help run test slow lint wheels

help:
	@echo "make run    set up .venv and run main.py; arguments: make run ARGS=\"--help\""
	@echo "make test   set up .venv and run lint and tests; one test: make test ARGS=\"-k cache\""
	@echo "make slow   the minutes-long proofs that make test leaves out"
	@echo "make lint   style and formatting (ruff) and types (pyright) alone"
	@echo "make wheels download what make run installs into wheels/, for machines without a network"

run: .venv/run-ready
	$(PYTHON) main.py $(ARGS)

test: lint
	$(PYTHON) -m pytest $(ARGS)

slow: .venv/test-ready
	$(PYTHON) -m pytest -m slow $(ARGS)

lint: .venv/test-ready
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

# Linux without an NVIDIA driver takes PyTorch's CPU build: 190 MB instead of several GB.
wheels: $(PYTHON)
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	    torch=$$(grep '^torch==' constraints.txt)+cpu; \
	    $(PIP) download --no-deps -d wheels --extra-index-url $(CPU_INDEX) $$torch; \
	fi
	$(PIP) download -d wheels --find-links wheels -c constraints.txt . "setuptools>=77"

# --- the environment --------------------------------------------------------------------------------------------------
# .venv/unfinished stands from the first step of an installation to its last. Where an earlier call
# was interrupted, or the Python below .venv is gone, .venv is made anew instead of being trusted.
ifeq ($(shell test -x $(PYTHON) && test ! -e .venv/unfinished && echo whole),)
.PHONY: $(PYTHON)
endif

$(PYTHON):
	@for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	    if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; \
	    then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Python 3.11 to 3.14 is needed; found: $$(python3 --version 2>/dev/null || echo no python3)." >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$python cannot make environments; on Debian and Ubuntu: sudo apt install $$python-venv" >&2; exit 1; \
	fi; \
	set -ex; rm -rf .venv/bin .venv; mkdir .venv; touch .venv/unfinished; $$python -m venv .venv

.venv/run-ready: $(PYTHON) pyproject.toml constraints.txt
	@touch .venv/unfinished; rm -f .venv/*-ready
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip
	@if [ -z "$(WHEELS)" ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	    torch=$$(grep '^torch==' constraints.txt)+cpu; \
	    echo "pip install $$torch"; \
	    $(PIP) install --no-deps --retries 0 --timeout 15 --extra-index-url $(CPU_INDEX) $$torch 2>/dev/null || \
	    echo "No CPU build of PyTorch to be had from $(CPU_INDEX): going on with the default build, several GB."; \
	fi
	$(PIP) install $(WHEELS) -c constraints.txt -e . || { echo "$(NO_WHEELS)" >&2; exit 1; }
	@rm .venv/unfinished; touch $@

.venv/test-ready: .venv/run-ready
	@touch .venv/unfinished
	$(PIP) install $(WHEELS) -c constraints.txt -e ".[test]" || { echo "$(NO_WHEELS)" >&2; exit 1; }
	@rm .venv/unfinished; touch $@
