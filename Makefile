# Two commands: `make demo` and `make test`; each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
RUN := OMP_NUM_THREADS=1 $(BIN)

.PHONY: demo test test-slow torture test-browser test-slurm lint bench clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,lint]"
	touch $@

demo: .venv/installed
	$(BIN)/patchscale study run quickstart --out runs/demo

test: .venv/installed
	$(RUN)/pytest -q -n auto --dist loadfile -m "not slow and not gpu and not slurm and not browser"

test-slow: .venv/installed
	$(RUN)/pytest -q -m slow

# Kills runs of one and of two processes at random instants and compares every bit with runs that were left alone.
torture: .venv/installed
	$(RUN)/python -m tests.training.torture

test-browser: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[browser]"
	$(RUN)/pytest -q -m browser

# As root on Debian or Ubuntu: installs Slurm, starts it on this machine, and leaves it running.
test-slurm: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[slurm]"
	tests/slurm/start_slurm.sh
	$(RUN)/pytest -q -m slurm

lint: .venv/installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright

bench: .venv/installed
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv dist runs .pytest_cache .ruff_cache .hypothesis
