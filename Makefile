# `make run` needs only Python (3.11 or newer) and make; everything lands in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# a stamp is newer than the files that decide what is installed, so a second call installs nothing
RUNTIME := $(VENV)/.installed-runtime
ALL := $(VENV)/.installed-all

.DEFAULT_GOAL := help
.PHONY: help run test test-exact test-frozen test-emulated check format docs requirements clean perf perf-smoke fuzz attack perf-decode perf-encode perf-fidelity

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "edgelm needs Python 3.11 or newer; choose one with: make run PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(ALL): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[export,dev]'
	@touch $(RUNTIME) $@

run: $(RUNTIME) ## install the runtime (no torch) and answer three real inputs
	@printf '\n物流很快，包装完好，穿着也很舒服，会再来买！\n'
	@$(BIN)/edgelm run sentiment --timings '物流很快，包装完好，穿着也很舒服，会再来买！'
	@printf '\n%s\n' "$(REVIEW)"
	@$(BIN)/edgelm run summary --timings "$(REVIEW)"
	@printf '\n类型#裙*颜色#白色*风格#简约*裙型#百褶裙\n'
	@$(BIN)/edgelm run description --timings '类型#裙*颜色#白色*风格#简约*裙型#百褶裙'

REVIEW := I love this sweater! It is soft and warm, the colour is just as it looks in the picture, and it fits true to size. \
I have worn it to work with jeans and boots and got many compliments. It is a great buy for the winter.

test: $(ALL) ## install the rest and run every test, on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What can differ there is the graph that a session gets, and that answers the same to the bit: tests/runtime/test_unsigned.py.
# So the tests that make sessions of int8 graphs in every way are enough: from files and beside weights, by every scheme, for
# every task, by the search; and what says how a bundle was loaded.
EXACT := $(addprefix tests/runtime/test_,unsigned.py products.py session.py weights.py placement.py verify.py sentiment.py \
  summary.py encoders.py batch.py) tests/cli/test_run.py tests/cli/test_inspect_verify.py \
  tests/export/test_quantize.py tests/export/test_apart.py tests/export/test_seq2seq.py \
  'tests/export/test_search_kinds.py::test_a_search_keeps_the_drop_and_says_why[albert]'

test-exact: $(ALL) ## the tests that run int8 graphs, as on a CPU with AVX2 and without VNNI
	$(BIN)/python -m pytest --exact-products -n 2 --dist worksteal $(EXACT)

test-frozen: $(ALL) ## a program frozen by PyInstaller: half a minute, so not a part of `make test`
	$(BIN)/python -m pytest --frozen tests/frozen

test-emulated: $(ALL) ## other CPUs: apt-get install qemu-user; for ARM64 also tests/emulated/make_arm64.sh
	$(BIN)/python -m pytest tests/emulated

check: $(ALL) ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(ALL) ## write the formatting that check asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(ALL) ## write docs/cli.md from the help texts, docs/profile-schema.md from the dataclasses
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_profile_schema.py

requirements: ## write requirements.txt: the runtime's packages as in constraints.txt, with hashes (needs uv)
	uv pip compile pyproject.toml -c constraints.txt --universal --generate-hashes --no-header --no-annotate -q -o requirements.txt

clean: ## remove .venv and the caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist

fuzz: $(ALL) ## mutated bundles, checkpoints, memories: KINDS='tokenizers graphs' COUNT=100 MINUTES=5 SEED=2
	nice $(BIN)/python -m tests.fuzz $(KINDS) $(if $(COUNT),--count $(COUNT)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

attack: $(ALL) ## texts of 2,000,000 characters of every shape, with every option: memory and time, in minutes
	nice $(BIN)/python -m tests.fuzz.attack $(if $(CHARACTERS),--characters $(CHARACTERS))

perf: $(ALL) ## measure: cold start, throughput, generation, engine, export, network (idle machine, minutes)
	$(BIN)/python -m perf --keep

perf-decode: $(ALL) ## the decoder beside its peers: installs each (12 GB, a compiler), then about an hour
	$(BIN)/python -m perf.decode --page docs $(if $(SUMMARY),--summary $(SUMMARY))
	$(BIN)/python -m perf.performance

perf-encode: $(ALL) ## the encoder beside its peers: installs each (8 GB), then about half an hour
	$(BIN)/python -m perf.encode --page docs
	$(BIN)/python -m perf.performance

perf-fidelity: $(ALL) ## answers kept, beside the peers: CLASSIFIER='CHECKPOINT ROWS' GENERATOR='CHECKPOINT ROWS'
	$(BIN)/python -m perf.fidelity --page docs $(if $(CLASSIFIER),--classifier $(CLASSIFIER)) $(if $(GENERATOR),--generator $(GENERATOR))
	$(BIN)/python -m perf.performance

perf-smoke: $(ALL) ## the same with tiny models, in seconds: shows that the measurements run
	$(BIN)/python -m perf --smoke
	$(BIN)/python -m perf.decode --smoke --rounds 1
	$(BIN)/python -m perf.encode --smoke --rounds 1
	$(BIN)/python -m perf.fidelity --smoke --rounds 1
