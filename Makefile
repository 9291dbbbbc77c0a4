# Every target creates the environment it needs, once: .venv, from pyproject.toml.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
EVIDENCE ?= gpu-evidence.json

# Tests run in a process for each core, each with one torch thread (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test check test-all soak bench gpu-evidence audit format

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Train four minutes on the embedded images, measure, export, look: at most seven minutes
	@$(BIN)/sslcli pretrain --out demo/run --overwrite
	@echo; echo "== Nearest neighbours, and baselines that need no training"
	@$(BIN)/sslcli knn-eval demo/run --baselines
	@echo; echo "== A linear classifier on the frozen encoder"
	@$(BIN)/sslcli linear-eval demo/run
	@echo; echo "== The encoder for use elsewhere"
	@$(BIN)/sslcli export demo/run -o demo/encoder.onnx
	@echo; echo "== What the network saw"
	@$(BIN)/sslcli inspect-augs -o demo/augmentations.png
	@echo
	@echo "Everything is in demo/: run/ (checkpoints, metrics.jsonl, plan.json), encoder.onnx, augmentations.png"
	@echo "Try next:"
	@echo "  $(BIN)/sslcli pretrain --method moco-v2"
	@echo "  $(BIN)/sslcli pretrain --method simclr --batch 4096"
	@echo "  $(BIN)/sslcli pretrain path/to/your/images --out runs/mine"
	@echo "  $(BIN)/sslcli --help"

bench: $(READY) ## How fast this machine is against its ceilings and plain PyTorch: about a minute
	@$(BIN)/sslcli bench

# Without a .venv it takes the PyTorch that is installed: a GPU machine may have no network.
gpu-evidence: ## Measure on a CUDA machine, into EVIDENCE; call again to continue (DATA=folder of CIFAR-10, BUDGET=seconds)
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m tests.gpu_evidence --out $(EVIDENCE) \
		$(if $(DATA),--data $(DATA)) $(if $(BUDGET),--budget $(BUDGET))

test: $(READY) ## The tests: a few minutes on two cores
	@$(PYTEST)

check: $(READY) ## Format, lint and strict types, then the tests: what must hold before a commit
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(MAKE) --no-print-directory test

test-all: $(READY) ## Everything: slow tests and faults too, then known mistakes planted one by one that some test must catch
	@$(PYTEST) -m "not gpu and not soak"
	@$(BIN)/python -m tests.mutants

soak: $(READY) ## Kill runs with -9 and resume them, ROUNDS=20 times ten kills for each method
	@SOAK_ROUNDS=$(or $(ROUNDS),20) $(BIN)/python -m pytest -m soak

audit: $(READY) ## Look for known vulnerabilities of the installed packages with pip-audit; needs the network
	@$(BIN)/python -m pip_audit --local --skip-editable --progress-spinner off

format: $(READY) ## Format the code as check expects it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(READY): pyproject.toml
	@echo "Making .venv (a few minutes the first time: PyTorch is large)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
