# `make` sets up and runs the race, `make test` sets up and runs the tests, `make help` lists the
# rest. Everything is installed into $(VENV), nothing outside it.

VENV ?= .venv
WORKERS ?= 2
# The tests that depend on how a program is compiled: their tolerances count roundings, they compare bits, or
# they count what the compiled program does. Everything else is compiled with few optimizations
# (tests/conftest.py).
NUMBERS := tests/core/test_numbers.py tests/compose $(addprefix tests/matrices/test_,newton_schulz.py \
	polar_factor.py polynomials.py) tests/optimizers tests/papers tests/transforms \
	$(addprefix tests/wrappers/test_,compensated.py master_weights.py)
# Arguments for the race or for pytest: make ARGS="--data mine.csv", make test ARGS="-k adamw".
ARGS ?=
# The oldest supported version comes first, so that what passes here passes everywhere. A name
# that exists but does not run (a version manager's shim) is passed over. When nothing fits, the
# answer is `python3`, for the message below to name.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; echo "$$p")

PY := $(VENV)/bin/python
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist worksteal
SHELL := /bin/bash
.DEFAULT_GOAL := race
# Two installations into one environment must not run at once, whatever -j says.
.NOTPARALLEL:
.PHONY: race test laws numbers meshes processes resume lint format notebooks docs site bench compare soak fuzz clean help

race: $(VENV)/.has-examples  ## set up and run the race of optimizers (the default)
	@$(PY) -m examples.race $(ARGS)

# Status 5 says that ARGS select no test in one of the two halves.
test: $(VENV)/.has-tests $(VENV)/.has-examples  ## set up and run all tests and doctests
	@passed=true; \
	QUICK_COMPILE=1 $(PYTEST) $(addprefix --ignore=,$(NUMBERS)) $(ARGS) || [ $$? = 5 ] || passed=false; \
	$(PYTEST) $(NUMBERS) $(ARGS) || [ $$? = 5 ] || passed=false; \
	$$passed

laws: $(VENV)/.has-tests  ## run every law on every row of the zoo, compiled as users compile
	@ROWS=$${ROWS:-all} $(PYTEST) tests/laws $(ARGS)

# A few rows of the zoo are compiled once more.
numbers: $(VENV)/.has-tests  ## run the tests of numbers alone (ISA=AVX2: as on a processor with no more)
	@ROWS=few XLA_FLAGS="$(if $(ISA),--xla_cpu_max_isa=$(ISA))" $(PYTEST) $(NUMBERS) \
		tests/laws/test_number_laws.py::test_donated_jitted_steps_equal_eager_ones $(ARGS)

resume: $(VENV)/.has-tests  ## kill a run 20 times, resume it, and compare it with one that was not
	@KILLS=20 $(PY) -m pytest -s tests/training/test_resume.py $(ARGS)

processes: $(VENV)/.has-tests $(VENV)/.has-examples  ## lose processes of a job, and let it go on
	@PROCESSES=1 $(PY) -m pytest tests/training/test_multiprocess.py $(ARGS)

meshes: $(VENV)/.has-tests  ## run every transformation in every layout on meshes of eight devices
	@MESHES=1 ALL_MESHES=1 QUICK_COMPILE=1 $(PYTEST) tests/laws/test_meshes.py \
		tests/matrices/test_distributed*.py tests/bases/test_bases_on_meshes.py $(ARGS)

lint: $(VENV)/.has-dev  ## check format, style and types
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(VENV)/bin/basedpyright --pythonpath $(PY)

format: $(VENV)/.has-dev  ## rewrite the files as `make lint` wants them
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

notebooks: $(VENV)/.has-notebooks  ## run notebooks/*.py and render each as .ipynb beside it
	@set -e; for file in $(or $(wildcard notebooks/*.py),$(error there is no notebooks/*.py)); do \
		echo "$$file"; $(PY) -m jupytext --quiet --to ipynb --set-kernel python3 \
		--execute "$$file"; done

docs: $(VENV)/.has-docs $(VENV)/.has-notebooks  ## build the documentation into docs/_build/html
	@$(PY) -m sphinx --fail-on-warning --keep-going -q docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

site: docs $(VENV)/.has-tests  ## build the documentation, and look at it in a headless browser
	@$(PY) -m pytest tests/project/test_site.py $(ARGS)

bench: $(VENV)/.has-examples  ## measure gradtx beside its peers (ARGS=--quick for fewer rounds)
	@$(PY) -m benchmarks $(ARGS)

compare: $(VENV)/.has-compare  ## compare all optimizers, each with the same budget (ARGS=--quick)
	@$(PY) -m examples.compare $(ARGS)

soak: $(VENV)/.has-examples  ## take a million steps of every recipe (ARGS="adam muon --steps 10000")
	@$(PY) -m benchmarks.soak $(ARGS)

fuzz: $(VENV)/.has-tests  ## hold random compositions against the laws (ARGS="--minutes 60")
	@QUICK_COMPILE=1 nice $(PY) tests/fuzz/run.py $(ARGS)

clean:  ## remove the environments, the caches and whatever was written
	rm -rf .venv .venv-* build dist out docs/_build .pytest_cache .ruff_cache .hypothesis
	find gradtx tests examples notebooks benchmarks docs -name __pycache__ -prune \
		-exec rm -rf {} + 2>/dev/null || true

help:  ## list what make can do
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

# The stamp $(VENV)/.has-NAME says that the extra NAME is installed as pyproject.toml now has it.
$(VENV)/.has-%: pyproject.toml | $(PY)
	@echo "installing gradtx[$*] into $(VENV) (the first time takes a minute or two)"
	@$(PY) -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(PY):
	@p='$(PYTHON)'; \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$("$$p" --version 2>/dev/null) && found="is $$found" || found="does not run"; \
		echo "gradtx needs Python 3.11 or newer, and '$$p' $$found." \
			"Name another one: make PYTHON=python3.12" >&2; exit 1; }; \
	echo "making $(VENV) with $$("$$p" --version)"; \
	"$$p" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "'$$p' cannot make an environment: install its venv module first" \
			"(on Debian and Ubuntu, the package python3-venv)." >&2; exit 1; }
