# make demo: install into .venv and upscale a real photo; make test: all tests; make lint: style and types.
# make docs: the documentation; make wheels: what a release consists of.
# make test-paths: what depends on the CPU's kernels and products, with each of them forced.
# Another torch: make TORCH="torch --index-url ..." (a CPU or CUDA build of your choice, 2.11 or newer).
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# a process for each processor; the tests of a file, which share what takes long to make, stay in one
WORKERS ?= -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-paths test-gpu hostile sanitize lint format docs wheels wheels-cuda release clean

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest $(WORKERS)

test-paths: $(READY)
	WORKERS="$(WORKERS)" tools/test_paths.sh $(BIN)/python

# damaged and malicious pictures, checkpoints, configurations and arguments: N of them by SEED, or ONLY one, with details
N ?= 1000
SEED ?= 0
hostile: $(READY)
	$(BIN)/python tests/hostile/run.py --cases $(N) --seed $(SEED) $(if $(ONLY),--only $(ONLY))

# on a machine with a CUDA device
test-gpu: $(READY)
	$(BIN)/python -m pytest tests/gpu

sanitize: $(READY)
	PYTHON=$(BIN)/python benchmarks/gpu.sh sanitize

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# build/docs/index.html, without network; warnings are errors
docs: $(READY)
	$(BIN)/python -m sphinx -b html -q -W --keep-going docs build/docs

# into dist/: the sdist, a wheel of pure Python and one with the CPU kernels; wheels-cuda: the one with CUDA kernels too
wheels:
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" tools/release/wheels.sh

wheels-cuda:
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" tools/release/wheels.sh cuda

# every step of a release but the upload, whose commands it prints
release:
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" $(PYTHON) tools/release/release.py

# torch first, so that the package builds against it: that is what --no-build-isolation is for
$(READY): pyproject.toml setup.py $(wildcard tools/building/*.py csrc/*.* csrc/*/*.*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade-strategy only-if-needed $(TORCH) "setuptools>=77" wheel
	$(BIN)/python -m pip install --no-build-isolation --editable ".[demo,test]"
	touch $(READY)

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache .mypy_cache
