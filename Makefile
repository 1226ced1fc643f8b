# Two commands: `make demo` and `make test`; each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
RUN := OMP_NUM_THREADS=1 $(BIN)

.PHONY: demo studies claims docs test test-slow torture test-browser test-slurm lint bench clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,lint]"
	touch $@

demo: .venv/installed
	$(BIN)/patchscale study run quickstart --out runs/demo

# Every preset at tiny scale, one after the other; stopped anywhere, the same command continues. Trials that two presets
# share are trained once.
studies: .venv/installed
	mkdir -p runs/tiny
	for name in $$($(BIN)/patchscale study list --json | $(BIN)/python -c "import json, sys; print(*[one['name'] for one in json.load(sys.stdin)])"); do \
	  $(BIN)/patchscale study run $$name --scale tiny --reuse runs/tiny --out runs/tiny/$$name || exit 1; \
	done
	$(BIN)/patchscale study report runs/tiny/*/ --out runs/tiny/report.html

# The answers to the papers' claims, from results/: package data and a page of the documentation.
claims: .venv/installed
	$(BIN)/python -m patchscale.report.claims results docs/claims.md

# The documentation as site/; a broken link or reference is an error.
docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

test: .venv/installed
	$(RUN)/pytest -q -n auto --dist loadfile -m "not slow and not gpu and not slurm and not browser"

test-slow: .venv/installed
	$(RUN)/pytest -q -m slow

# Kills runs of one and of two processes at random instants and compares every bit with runs that were left alone.
torture: .venv/installed
	$(RUN)/python -m tests.training.torture

test-browser: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[browser]"
	npm install --no-save --silent axe-core
	PATCHSCALE_TEST_ALL=1 $(RUN)/pytest -q -m browser

# As root on Debian or Ubuntu: installs Slurm, starts it on this machine, and leaves it running.
test-slurm: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[slurm]"
	tests/slurm/start_slurm.sh
	PATCHSCALE_TEST_ALL=1 $(RUN)/pytest -q -m slurm

lint: .venv/installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright

bench: .venv/installed
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv dist runs .pytest_cache .ruff_cache .hypothesis
