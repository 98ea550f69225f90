# Everything needs only python3, pip, make and git; the first target that is asked for sets up .venv.
PYTHON ?= python3
BIN := .venv/bin
MODEL ?= assets/demo-voice
# A GNU OpenMP thread that spins while it waits starves the other threads of a small machine; torch reads this once.
export OMP_WAIT_POLICY ?= passive
# Extra arguments for pip, for example: make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'
PIP_ARGS ?=
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: demo test test-all rq-newest kernels lint type bench clean

demo: $(BIN)/.base
	$(BIN)/python scripts/demo.py --model $(MODEL)

# Minutes: every room, with a real Redis and real workers.
test: $(BIN)/.dev
	$(PYTEST) -m 'not slow and not train'

# Everything: what continuous integration runs.
test-all: $(BIN)/.dev
	$(PYTEST)

# The tests of the queue with the newest RQ that there is, of which names that begin with an underscore are used.
rq-newest: $(BIN)/.dev
	rm -rf .venv/rq-newest
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/rq-newest rq
	PYTHONPATH=.venv/rq-newest $(PYTEST) tests/worker/broker tests/client tests/integration/test_conformance.py

# The kernels for GPUs, on a CPU, in Triton's interpreter; with a GPU, `make test-all` runs them as they are.
kernels: .venv/triton
	TRITON_INTERPRET=1 PYTHONPATH=.venv/triton $(PYTEST) tests/model/fast tests/codec/fast \
		tests/sampler/test_device.py tests/batching/test_fast.py

lint: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(BIN)/.dev
	$(BIN)/mypy

bench: $(BIN)/.dev
	$(BIN)/python scripts/bench --quick

$(BIN)/python:
	$(PYTHON) -m venv .venv

$(BIN)/.base: pyproject.toml client/pyproject.toml gateway/pyproject.toml constraints.txt $(wildcard native/*.[ch] native/*.inc) | $(BIN)/python
	$(PIP) -e ./client -e ./gateway -e .
	touch $@

$(BIN)/.dev: $(BIN)/.base
	$(PIP) -e ./client -e ./gateway -e '.[chinese,clone,dashboard,hub,media,otel,store,dev]'
	touch $@

.venv/triton: | $(BIN)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $@ triton==3.6.0

# Packages of producers that docs/examples and tests run, apart: they would change versions of the project's own.
.venv/producers: | $(BIN)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --target $@ \
		'celery[redis]==5.7.0' flask-rq==1.0.0 rq-scheduler==0.14.0 'rq>=3.0,<3.1'

# What checks the scaler of deploy/kubernetes, from npm.
.venv/keda: | $(BIN)/.dev
	npm install --silent --no-fund --no-audit --prefix $@ @kubernetes-models/keda@2.0.0

clean:
	rm -rf .venv out
