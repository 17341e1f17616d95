# Chunkwise: `make demo` shows it, `make test` tests it. Both need python3 >= 3.11 and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo model test test-all check docs clean

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Chunkwise needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/pip || PYTHON="$(PYTHON)" sh scripts/make_venv.sh "$(VENV)"
	@echo "Installing into $(VENV) (some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch>=2.11,<=2.13.0'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## Ingest the sample documents and answer three questions
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

model: $(VENV)/.installed  ## Fetch a small language model (93 MB) for `make demo` and for trying
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/get_model.sh models/smollm2-135m

test: $(VENV)/.installed  ## Lint, types and tests: no network, no GPU, two cores
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(VENV)/.installed  ## The long tests too
	$(BIN)/python -m pytest -m 'not gpu and not network'

docs: $(VENV)/.installed  ## Write the generated pages again
	$(BIN)/python scripts/make_docs.py

clean:
	rm -rf $(VENV) demo-corpus
