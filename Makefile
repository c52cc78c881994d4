# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo demo-encoder test soak check format bench clean help

help:
	@echo "make demo    environment, then the demo: generated corpus, five folds, a report (minutes on two cores)"
	@echo "make test    environment, then the whole test suite (about 15 minutes on two cores)"
	@echo "make soak    the long tests: 100 random kills, demos, exports, an hour of damaged files; chance on every engine alone takes hours"
	@echo "make check   ruff, mypy, import layers"
	@echo "make bench   speed against transformers.Trainer and bare loops, Mamba, the cache, MER2023, talking faces, diarization (about 45 minutes)"

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,deepspeed,egemaps,onnx,aggregation]'
	@touch $@

# Passive waiting: a third slower on an idle machine, but not four times slower on a busy one.
demo: $(VENV)/.done
	OMP_WAIT_POLICY=passive $(BIN)/affect launch --engine cpu recipes/finetune_wavlm.py

demo-encoder: $(VENV)/.done
	OMP_WAIT_POLICY=passive $(BIN)/affect launch --engine cpu recipes/finetune_wavlm.py demo_encoder

# A process a core, a file a process, in the order that tests/conftest.py gives: tests compute in one thread. A process
# that dies ends the run: with another in its place pytest-xdist waits for ever for tests that it thinks are handed out.
test: $(VENV)/.done
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

soak: $(VENV)/.done
	$(BIN)/python -m pytest -m soak

check: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(VENV)/.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.done
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/hold.py
	$(BIN)/python benchmarks/mamba.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/convert.py
	$(BIN)/python benchmarks/simulate.py
	$(BIN)/python benchmarks/score_epoch.py --steps 12
	$(BIN)/python benchmarks/diarization_scoring.py
	$(BIN)/python benchmarks/diarization_online.py
	$(BIN)/python benchmarks/diarization_step.py --small 1
	$(BIN)/python benchmarks/together.py --whole
	$(BIN)/python benchmarks/scale.py

clean:
	rm -rf $(VENV) runs data
