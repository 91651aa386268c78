# The two commands of the README: `make quickstart` and `make test`. Each makes the virtual environment if there is
# none and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs/quickstart
# Installed beside the test extra; .ci/run asks for the independent implementations (PyTorch) of the parity tests.
TEST_EXTRAS ?= prep,formats,ligands,test
PYTEST_ARGS ?=
# Processes of the tests, whole files each; a process takes up to 3 GB.
TEST_PROCESSES ?= 2

BIN := $(VENV)/bin
SAMPLE := data_prep/sample
CONTROLS := 1 2 3
CONSTRAINTS = constraints/py$(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
# Tested versions where there is a file for this Python, else whatever the ranges of setup.py allow.
PIN = $(if $(wildcard $(CONSTRAINTS)),-c $(CONSTRAINTS))
# The control runs compile the same program as the model; with the cache they load it.
# Two simulated devices keep two CPU cores busy, which one program does not; where there is a GPU the flag does nothing.
TRAIN = XLA_FLAGS=--xla_force_host_platform_device_count=2 \
  JAX_COMPILATION_CACHE_DIR=$(abspath $(RUNS))/compiled $(BIN)/python -m experiments.train

.PHONY: quickstart test lint clean

quickstart: $(VENV)/.prep
	test -f $(RUNS)/records/metadata.json || $(BIN)/python -m data_prep.build ppbs \
	  --structures $(SAMPLE)/structures --complexes $(SAMPLE)/complexes.csv \
	  --out $(RUNS)/records --alignment biopython --split 0.6,0.15,0.25
	$(TRAIN) --config=configs/quickstart.py:records=$(RUNS)/records --workdir=$(RUNS)/model
	for seed in $(CONTROLS); do \
	  $(TRAIN) --config=configs/quickstart.py:shuffle_labels=True,seed=$$seed,records=$(RUNS)/records \
	    --workdir=$(RUNS)/control_$$seed || exit 1; \
	done
	$(BIN)/python -m experiments.evaluate --workdir=$(RUNS)/model \
	  --controls=$(RUNS)/control_1,$(RUNS)/control_2,$(RUNS)/control_3

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/.prep: setup.py | $(BIN)/python
	$(BIN)/python -m pip install -q $(PIN) -e '.[prep]'
	touch $@

$(VENV)/.test: setup.py | $(BIN)/python
	$(BIN)/python -m pip install -q $(PIN) -e '.[$(TEST_EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
