# Every command of this repository, for people, pre-commit and CI. Needs python3 (3.11 or newer), git and make.
.NOTPARALLEL:
.PHONY: help demo demo-eval test lint ruff types imports check coverage reliability pictures benchmarks performance clean weights
BIN := .venv/bin
WEIGHTS := $${XDG_CACHE_HOME:-$$HOME/.cache}/plait/models/SmolLM2-135M-Instruct.Q4_1.gguf

# The demonstration of evals keeps its experiments apart, and its names are taken over each time.
EVAL_FOLDER := build/demo-eval
EVAL_HOME := PLAIT_HOME=$(EVAL_FOLDER)/home
EVAL := $(EVAL_HOME) $(BIN)/plait eval story-quality --limit 12 --model local:smollm2-135m --replace
EVAL_PROMPT := You are a poet. You write haiku.

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## Install into .venv, fetch the embedded model's weights, stream a story
	@sh scripts/bootstrap.sh demo
	@$(MAKE) --no-print-directory -s weights
	@$(BIN)/plait run story topic="a magical forest"

demo-eval: ## Evaluate two prompts on the embedded model, compare them, write a report
	@sh scripts/bootstrap.sh test
	@$(MAKE) --no-print-directory -s weights
	$(EVAL) --name before
	$(EVAL) --name after --reuse before --context 'prompt=$(EVAL_PROMPT)'
	$(EVAL_HOME) $(BIN)/plait compare before after
	$(EVAL_HOME) $(BIN)/plait report after --html $(EVAL_FOLDER)/report.html --force

test: ## Run the tests, on all cores; what fails beside others is tried again alone
	@sh scripts/bootstrap.sh test
	@$(MAKE) --no-print-directory -s weights
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile || \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

check: lint test ## Everything a change must pass

lint: ruff types imports ## Style, types and layering

ruff: ## Style alone
	@sh scripts/bootstrap.sh dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: ## Types alone
	@sh scripts/bootstrap.sh dev
	@$(BIN)/mypy
	@$(BIN)/pyright

imports: ## Layering alone
	@sh scripts/bootstrap.sh dev
	@$(BIN)/lint-imports

coverage: ## Run the tests and report the lines they miss
	@sh scripts/bootstrap.sh test
	@$(MAKE) --no-print-directory -s weights
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage report --skip-covered --show-missing

reliability: ## Kill batches, servers and clusters, fill disks, fail calls: the full form, about 45 minutes
	@sh scripts/bootstrap.sh test
	@$(BIN)/python -m tests.reliability
	@$(BIN)/python -m tests.reliability.cluster
	@$(BIN)/python -m tests.reliability.service_full

pictures: ## Draw the pictures of README and docs anew, on the embedded model
	@sh scripts/bootstrap.sh dev
	@$(BIN)/python scripts/record.py docs/pictures/stories.svg $(BIN)/plait run stories \
		'topics:=["a magical forest","a futuristic city","an underwater civilization"]' words:=60 --model local:smollm2-135m
	@$(BIN)/python scripts/eval_picture.py docs/pictures/eval.svg
	@$(BIN)/python scripts/report_pictures.py
	@$(BIN)/python scripts/service_pictures.py
	@for name in summarize rag research; do $(BIN)/plait graph $$name --png docs/pictures/$$name.png; done

benchmarks: ## Measure what the documentation claims
	@sh scripts/bootstrap.sh test
	@$(BIN)/python -m benchmarks

performance: ## Measure every table of the performance pages anew and write them, about 90 minutes
	@sh scripts/bootstrap.sh test
	@$(BIN)/python -m benchmarks page --measure

clean: ## Remove .venv and everything generated (the weights stay in the user's cache)
	rm -rf .venv .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Looked up here: starting plait only to learn that nothing is to be done would delay the first token.
weights:
	@test -n "$$PLAIT_LOCAL_MODEL_FILE" || test -s "$(WEIGHTS)" || $(BIN)/plait models pull smollm2-135m
