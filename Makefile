# make setup, then make distill TASK=nlvr2. Every target that needs the environment makes it first.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 5000
TASK ?=
ARGS ?=
JOBS ?= 2
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile
STAMP := $(VENV)/.ok
RATIOS := speed corpora lxmert_speed distillation_speed threads
VERBS := prepare pretrain finetune distill search evaluate promote sync

export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK := true
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 2000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup link $(VERBS) test check ui bench clean
.SUFFIXES:

help:
	@echo "make setup                  the virtual environment $(VENV), once (about two minutes)"
	@echo "make distill TASK=nlvr2     teacher, student, evaluation, registered model; so for: $(VERBS)"
	@echo "                            further options: ARGS=\"-P method=mkd -P seed=1\""
	@echo "make ui                     the runs in a browser at 127.0.0.1:$(PORT)"
	@echo "make check                  format, lint, types, fast tests"
	@echo "make test                   every test; JOBS=2 files at a time, like make check"
	@echo "make bench                  speed and memory, as ratios; benchmarks of quality are called by name"
	@echo "make clean                  remove caches (runs, corpora and $(VENV) stay)"

setup: link
	@echo "vlx is ready in $(VENV). Next: make distill TASK=nlvr2"

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "vlx: no '$(PYTHON)' on PATH, expected Python 3.11 or newer; try make setup PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "vlx: '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1), expected Python 3.11 or newer; try make setup PYTHON=python3.11" >&2; exit 2; }
	@echo "[1/4] virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[2/4] pinned packages with torch (about 90 seconds, more on a slow line)"
	@$(BIN)/python -m pip install --quiet -r requirements.txt
	@echo "[3/4] tools for tests and checks"
	@$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@echo "[4/4] vlx itself"
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

link: $(STAMP)
	@$(BIN)/python -m vlx.tools.link_env

$(VERBS): link
	@$(BIN)/mlflow run . -e $@ $(if $(TASK),-P task=$(TASK)) $(ARGS)

test: link
	@$(PYTEST) $(ARGS)

check: link
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(PYTEST) -m "not slow" $(ARGS)

ui: link
	@$(BIN)/python -m vlx.tools.ui $(PORT)

bench: link
	@for name in $(RATIOS); do echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" $(ARGS) || exit 1; done

clean:
	@rm -rf build dist vlx.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
