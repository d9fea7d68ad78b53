# hwnas: `make demo` and `make test` do all the set-up on a fresh Debian 12 with Python >= 3.11.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo test test-slow fuzz test-gpu test-runtimes check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("hwnas needs Python >= 3.11, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || (echo "python3-venv is missing: apt-get install python3-venv" && exit 1)
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/hwnas specialize

test: check
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

# random networks against PyTorch; goes on where it was cut off
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench.compiler.fuzz

# make test runs these where there is a CUDA device; here a skipped one is a failure
test-gpu: setup
	HWNAS_NEEDS_GPU=1 $(BIN)/python -m pytest -m gpu

# TFLite files in older runtimes; make test runs them in those that are installed
test-runtimes: setup .venv-runtimes/tflite_runtime/.installed .venv-runtimes/tensorflow/.installed
	$(BIN)/python -m pytest tests/export/test_older_runtimes.py

.venv-runtimes/tflite_runtime/.installed: PACKAGES = tflite_runtime 'numpy<2'
.venv-runtimes/tensorflow/.installed: PACKAGES = tensorflow-cpu
.venv-runtimes/%/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --disable-pip-version-check --quiet $(PACKAGES)
	touch $@

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --threads
	$(BIN)/python -m tools.data.check

bench: setup
	$(BIN)/python -m tools.bench.start
	$(BIN)/python -m tools.bench.compiler.speed
	$(BIN)/python -m tools.bench.latency_model
	$(BIN)/python -m tools.bench.measuring.orders

clean:
	rm -rf $(VENV) .venv-runtimes .pytest_cache .ruff_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
