SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
export PYTHONWARNINGS ?= ignore
# The edge's tests have a process without OpenStack's packages, as the edge has, and a real
# placement has one without Nova's: both keep the state of their migrations in globals.
PLACEMENT_TESTS := tests/integration/controlplane/openstack/placement
EDGE_TESTS := tests/integration/edge
# More arguments for pytest: make test-unit ARGS="-k outbox"
ARGS ?=

.PHONY: help env lock proto wheel lint format test test-unit test-edge test-placement \
        test-integration test-end-to-end test-faults bench faults quickstart demo demo-env demo-down cloud-up cloud-down servers-down

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## Make .venv from the lock
	@tools/python_env

lock: env ## Pin the dependencies of pyproject.toml again (ARGS=--upgrade for newer ones)
	tools/lock $(ARGS)

proto: env ## Generate the Python code of proto/
	$(PYTHON) tools/generate_proto.py

wheel: env ## Build the wheel of this checkout into dist/
	$(PYTHON) -m hatchling build --target wheel --directory dist

lint: env ## Run every static check: style, types, import rules, protocol
	$(PYTHON) -m tools.lint

format: env ## Format the code and sort the imports
	.venv/bin/ruff check --select I --fix --quiet .
	.venv/bin/ruff format .

test: env ## Run all tests; installs and starts the servers and the cloud that they need
	$(PYTHON) -m tools.servers install
	@$(MAKE) --keep-going --no-print-directory test-unit test-edge test-placement \
	    test-integration test-end-to-end test-faults

test-unit: env ## Run the tests that need no server
	$(PYTHON) -m pytest tests/unit $(ARGS)

test-edge: env
	$(PYTHON) -m pytest $(EDGE_TESTS) $(ARGS)

test-placement: env
	$(PYTHON) -m pytest $(PLACEMENT_TESTS) $(ARGS)

test-integration: env
	$(PYTHON) -m pytest tests/integration \
	    $(patsubst %,--ignore=%,$(EDGE_TESTS) $(PLACEMENT_TESTS)) $(ARGS)

test-end-to-end: env
	$(PYTHON) -m pytest tests/end_to_end $(ARGS)

test-faults: env
	$(PYTHON) -m pytest tests/faults -m brief --faults-seed 1 $(ARGS)

bench: env ## Measure the first sync and the change latency
	$(PYTHON) -m tools.bench $(ARGS)

faults: env ## Run the tests that break things
	$(PYTHON) -m pytest tests/faults $(ARGS)
	VSG_MODEL_SEQUENCES=$${VSG_MODEL_SEQUENCES:-2000} \
	    $(PYTHON) -m pytest tests/integration/controlplane/inventory/test_model.py

quickstart: env ## See discovery in a minute: a simulated vCenter, no OpenStack
	@$(PYTHON) -m tools.quickstart $(ARGS)

demo: env ## The whole thing on this machine: vCenter, OpenStack, edge, control plane
	@$(PYTHON) -m tools.demo up $(ARGS)

demo-env: ## Print the shell variables to go on by hand (see README)
	@$(PYTHON) -m tools.demo env

demo-down: ## Stop what the demo started
	@$(PYTHON) -m tools.demo down

cloud-up: env ## Start the one-machine OpenStack
	@$(PYTHON) -m tools.cloud up $(ARGS)

cloud-down: ## Stop the one-machine OpenStack
	@$(PYTHON) -m tools.cloud down $(ARGS)

servers-down: ## Stop MariaDB, RabbitMQ and whatever else this checkout started
	@$(PYTHON) -m tools.servers down
