# Needs Python 3.11 or newer, with its venv module. `make` alone lists what there is.

PYTHON ?= python3
MINUTES ?= 5
BIN := .venv/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TF_CPP_MIN_LOG_LEVEL := 3

DOCS := runs/site

.PHONY: help demo docs test test-entries fuzz soak lint bench-act bench-serving bench-memory bench-grid \
	bench-recurrent bench-ctc bench-transduction bench-handwriting bench-draw \
	bench-pixelcnn judge-pixelcnn bench-bytenet bench-agents bench-mdrnn clean

help: ## lists these targets
	@sed -n 's/^\([a-z%-]*\):.*## /\1\t/p' Makefile | sed 's/%/NAME/' | expand -t 20

demo: .venv/installed ## packages entries, and asks one server to think, write, draw, hear and play
	@$(BIN)/python -m ponderzoo.export._demo

test: .venv/developer ## runs every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-entries: .venv/developer ## gates the shipped weights of every entry, before publishing
	$(BIN)/python -m pytest -n 2 -m entries

docs: .venv/developer ## runs the notebooks, builds the site of documentation in DOCS=runs/site, and fails where a link leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir $(DOCS)

fuzz: .venv/developer ## sends, serves and loads nonsense for MINUTES=5
	end=$$(($$(date +%s) + 60 * $(MINUTES))); while [ $$(date +%s) -lt $$end ]; do \
		FUZZ=long $(BIN)/python -m pytest -x tests/test_fuzz.py || exit 1; done

soak: .venv/developer ## swaps models under full load for MINUTES=5
	$(BIN)/python tests/benchmarks/soak.py --minutes $(MINUTES)

lint: .venv/developer ## checks style, format, which room imports which, and the types that users see
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	mkdir -p .mypy_cache && ln -sfn .. .mypy_cache/ponderzoo && MYPYPATH=.mypy_cache $(BIN)/mypy

bench-act: .venv/developer ## times the ACT layer, with one thread and with two
	$(BIN)/python tests/benchmarks/act.py
	$(BIN)/python tests/benchmarks/act.py --threads 2

bench-serving: .venv/developer ## times the embedded server beside bare C-API calls, and its status beside abuse
	$(BIN)/python tests/benchmarks/serving.py
	$(BIN)/python tests/benchmarks/abuse.py

bench-memory: .venv/developer ## times the NTM layer at the copy setting, on both backends
	$(BIN)/python tests/benchmarks/memory.py
	$(BIN)/python tests/benchmarks/memory.py --backend jax

bench-grid: .venv/developer ## times the Grid LSTM layer on both backends, with one set of weights and with several
	$(BIN)/python tests/benchmarks/grid.py
	$(BIN)/python tests/benchmarks/grid.py --backend jax
	$(BIN)/python tests/benchmarks/grid.py --backend jax --untied

bench-mdrnn: .venv/developer ## times multi-dimensional LSTM cells by diagonals and point by point
	$(BIN)/python tests/benchmarks/mdrnn.py

bench-recurrent: .venv/developer ## times the LSTM layers against Keras's on both backends, with XLA and in TensorFlow's graphs
	$(BIN)/python tests/benchmarks/recurrent.py
	$(BIN)/python tests/benchmarks/recurrent.py --graph
	$(BIN)/python tests/benchmarks/recurrent.py --backend jax

bench-ctc: .venv/developer ## times the CTC loss against the backends' own
	$(BIN)/python tests/benchmarks/ctc.py
	$(BIN)/python tests/benchmarks/ctc.py --backend jax

bench-transduction: .venv/developer ## times the transducer's losses against plain code, on both backends
	$(BIN)/python tests/benchmarks/transduction.py
	$(BIN)/python tests/benchmarks/transduction.py --backend jax

bench-draw: .venv/developer ## times a training step of DRAW, and images that it is asked for
	$(BIN)/python tests/benchmarks/draw.py
	$(BIN)/python tests/benchmarks/draw.py --graph
	$(BIN)/python tests/benchmarks/draw.py --backend jax
	$(BIN)/python tests/benchmarks/painting.py

bench-pixelcnn: .venv/developer ## times images of the Gated PixelCNN against a whole pass a pixel
	$(BIN)/python tests/benchmarks/pixel_cnn.py

judge-pixelcnn: .venv/developer ## tells which images of RUN=pixelcnn_classes, an entry or a run, a classifier recognises
	$(BIN)/python tests/benchmarks/judge.py $(or $(RUN),pixelcnn_classes)

bench-bytenet: .venv/developer ## times text of ByteNet, a character at a time, against a whole pass a character
	$(BIN)/python tests/benchmarks/byte_net.py

bench-agents: .venv/developer ## times a step of deep Q-learning on Pong, by its parts
	$(BIN)/python tests/benchmarks/agents.py

bench-handwriting: .venv/developer ## times a training step of handwriting synthesis at the paper's size
	$(BIN)/python tests/benchmarks/handwriting.py
	$(BIN)/python tests/benchmarks/handwriting.py --graph
	$(BIN)/python tests/benchmarks/handwriting.py --backend jax

bench-bptt: .venv/developer ## measures bytes and time of an LSTM within budgets of memory
	$(BIN)/python tests/benchmarks/bptt.py

train-%: .venv/installed ## trains the entry NAME in runs/NAME, or goes on with it
	$(BIN)/ponderzoo train $* --run_dir runs/$*

clean: ## removes the environment and all caches; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .mypy_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/installed: setup.cfg pyproject.toml | .venv/bin/pip
	$(BIN)/python -m pip install -q -e .
	@touch $@

.venv/developer: setup.cfg pyproject.toml | .venv/bin/pip
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch .venv/installed $@
