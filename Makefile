# Every target makes the environment it needs, once: .venv, from pyproject.toml.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
EVIDENCE ?= gpu-evidence.json

.DEFAULT_GOAL := help
.PHONY: help demo bench gpu-evidence test check faults mutants format

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Train on the embedded images, measure, export, look: about five minutes on two cores
	@$(BIN)/sslcli pretrain --out demo/run --overwrite
	@echo; echo "== Nearest neighbours, beside what needs no training"
	@$(BIN)/sslcli knn-eval demo/run --baselines
	@echo; echo "== A linear classifier on the frozen encoder"
	@$(BIN)/sslcli linear-eval demo/run --baselines
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

bench: $(READY) ## How fast this machine is, beside its ceilings and plain code: about a minute
	@$(BIN)/sslcli bench

# Without a .venv it takes the PyTorch that is there: a machine with a card may have no network.
gpu-evidence: ## What a CUDA machine shows, into EVIDENCE; again to go on (DATA=folder of CIFAR-10, BUDGET=seconds)
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m tests.gpu_evidence --out $(EVIDENCE) \
		$(if $(DATA),--data $(DATA)) $(if $(BUDGET),--budget $(BUDGET))

test: $(READY) ## The tests
	@$(BIN)/python -m pytest

faults: $(READY) ## The slow tests: runs killed at random moments and resumed
	@$(BIN)/python -m pytest -m slow

mutants: $(READY) ## Plant known mistakes one by one; some test must catch each
	@$(BIN)/python -m tests.mutants

check: $(READY) ## Format, lint and strict types, then the tests: what must hold before a commit
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(MAKE) --no-print-directory test

format: $(READY) ## Lay the code out as check wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(READY): pyproject.toml
	@echo "Making .venv (a few minutes the first time: PyTorch is large)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
