"""A trainer of a run too small to learn anything, for tests that look inside a step."""

from pathlib import Path
from typing import Any

import torch

from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.train import Trainer
from ssl_cli.planning.resolved import Resolved
from tests.engine.test_pretrain import settings

METHODS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "simclr-v2": {"memory": 20},
    "moco-v1": {"queue": 20},
    "moco-v2": {"queue": 20},
    "instdisc": {"noise": 8},
    "invaspread": {},
}


def make_trainer(method: str, optimiser: str = "sgd", device: str = "cpu") -> Trainer:
    """Return a trainer of 12 steps, at the first one, whose rows run in two micro-batches with their graphs kept."""
    chosen = settings(
        Path("nowhere"), method={"name": method, **METHODS[method]}, optim={"name": optimiser},
        data={"images": 96, "size": 16},
    )  # fmt: skip
    where = torch.device(device)
    source = open_pretraining(chosen.data, 0)
    objective = build_objective(chosen, where, len(source))
    resolved = Resolved(
        device, "fp32", "channels_last", mode="direct", micro_batch=32, kept_graphs=2, checkpointing=False,
        compile="off", images=len(source),
    )  # fmt: skip
    loader = build_loader(chosen, objective, source, where, cache_bytes=1 << 24)
    trainer = Trainer(chosen, resolved, objective, loader)
    trainer.views.start(0, trainer.schedule.steps)
    return trainer
