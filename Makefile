# make demo   see it work            make test   run the tests
# make setup  only the environment   make lint   style, types, layers, manifest
# make clean  remove what was built (the environment .venv stays)
#
# Each does its own set-up, the first time only. Python 3.11 or newer is all that must be there.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-output

# Without an NVIDIA GPU, the CUDA libraries would be gigabytes for nothing.
HAS_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)
CONSTRAINTS := $(if $(HAS_GPU),,-c constraints-cpu.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(CONSTRAINTS)

# Without a screen, Qt gets a virtual one.
export QT_API ?= pyqt5
ifeq ($(shell uname -s)$(DISPLAY)$(WAYLAND_DISPLAY),Linux)
SCREEN := QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX"
HEADLESS := --headless
endif

.PHONY: setup demo test lint clean

setup: $(VENV)/.for-development

demo: $(VENV)/.for-use
	$(SCREEN) $(BIN)/genselfdiff demo $(HEADLESS) --out $(OUT)

test: $(VENV)/.for-development
	$(SCREEN) $(BIN)/python -m pytest -m "not qt and not slow" -n auto --maxprocesses 4 $(PYTEST_ARGS)
	$(SCREEN) $(BIN)/python -m pytest -m "qt and not slow" $(PYTEST_ARGS)
	QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(SCREEN) $(BIN)/python -m pytest -q -m "qt and not slow" \
		tests/widgets tests/commands/test_doctor.py

lint: $(VENV)/.for-development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari_genselfdiff/napari.yaml

clean:
	rm -rf build dist $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find napari_genselfdiff tests training benchmarks -name __pycache__ -prune -exec rm -rf {} + \
		2>/dev/null || true

$(VENV)/.system: scripts/system-libraries.sh
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it first." >&2; exit 1; }
	PYTHON="$(PYTHON)" scripts/system-libraries.sh
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	touch $@

$(VENV)/.for-use: $(VENV)/.system pyproject.toml constraints-cpu.txt
	$(PIP) -e ".[pyqt5,slides]"
	touch $@

$(VENV)/.for-development: $(VENV)/.system pyproject.toml constraints-cpu.txt
	$(PIP) -e ".[pyqt5,pyqt6,slides,test,dev]"
	touch $@ $(VENV)/.for-use
