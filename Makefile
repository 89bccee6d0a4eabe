# make demo       set up, then train a tiny model from real text and walk away with files that open everywhere
# make test       set up, then the default tests
# make test-all   every test: slow ones, and those that open our files in other environments and in a browser
# make lint       ruff and pyright
# make compatibility  open our files in every consumer, and renew docs/compatibility.md
# make docs      build the documentation's site into site/, offline
# make bench      measure what the README claims; make results shows it there
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSUMERS := $(patsubst tests/consumers/%.txt,.venv-%/ready,$(wildcard tests/consumers/*.txt))
PYTEST_WORKERS ?= 2

.PHONY: demo setup test test-all consumers browser compatibility lint format docs bench results clean

demo: setup
	HF_HUB_OFFLINE=1 $(BIN)/stentor demo

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS)

test-all: setup consumers browser
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m ""

# Stock transformers and onnxruntime in environments of their own, without Stentor: they are made before the tests block
# the network.
consumers: $(CONSUMERS)

$(CONSUMERS): .venv-%/ready: tests/consumers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# transformers.js for the example of the browser, and what drives Chromium: fetched before the tests block the network.
# Where there is no npm, the tests that need them say so.
BROWSER := examples/browser/vendor/transformers.js tests/browser/node_modules/ready
browser: $(if $(shell command -v npm),$(BROWSER))

examples/browser/vendor/transformers.js: examples/browser/package-lock.json examples/browser/vendor.mjs
	cd examples/browser && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent vendor

tests/browser/node_modules/ready: tests/browser/package-lock.json
	cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

# Open every kind of file of ours in every consumer, and write docs/compatibility.md from what they said.
compatibility: setup consumers browser
	$(BIN)/python benchmarks/compatibility.py -n $(PYTEST_WORKERS) tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python benchmarks/readme.py --check
	$(BIN)/python benchmarks/compatibility.py --check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/mkdocs build --strict

bench: setup
	$(BIN)/python benchmarks/demo.py

results: setup
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf site $(VENV) .venv-* .pytest_cache .ruff_cache .hypothesis
	rm -rf examples/browser/node_modules examples/browser/vendor tests/browser/node_modules
