# `make demo` and `make test` set up everything they need; see `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv/bin

# The demo, as in: make demo TRIALS=3 MODE=realtime VIEWER=true
POLICY ?= bundles/pushing
TRIALS ?= 10
SEED   ?= 100000
MODE   ?= lockstep
VIEWER ?= false
OUTPUT ?= runs/demo
# More pytest arguments, as in: make test PYTEST="-k bundle -x"
PYTEST ?=

.PHONY: help demo test check setup-demo setup-test clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	@echo "  demo takes TRIALS=$(TRIALS) SEED=$(SEED) MODE=$(MODE) VIEWER=$(VIEWER) POLICY=$(POLICY) OUTPUT=$(OUTPUT)"

demo: setup-demo ## run the shipped policy on the twin through ROS 2, and write a report
	@$(VENV)/ambient-policy launch pushing robot:=twin policy:=$(POLICY) trials:=$(TRIALS) seed:=$(SEED) \
	  mode:=$(MODE) viewer:=$(VIEWER) output:=$(OUTPUT)
	@echo "report: $(OUTPUT)/report.html"

test: setup-test ## lint, type-check and run every test
	@$(MAKE) --no-print-directory check
	@AMBIENT_POLICY_TEST_ALL=1 $(VENV)/python -m pytest $(PYTEST)

check: setup-test ## ruff and mypy
	@$(VENV)/ruff check .
	@$(VENV)/mypy

setup-demo: ## set up what the demo needs (no torch)
	@tools/setup demo

setup-test: ## set up what the tests need
	@tools/setup test

clean: ## remove builds, caches and runs/demo; keeps .venv and your other runs
	rm -rf build dist *.egg-info ros2_ws/build ros2_ws/install ros2_ws/log runs/demo
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
