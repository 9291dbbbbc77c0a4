"""A run too small to learn anything: the embedded data at 16 pixels, a network of four channels, one checkpoint."""

from pathlib import Path
from typing import Any

import torch

from ssl_cli import checkpoint
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.objective import Objective

RESOLVED = {
    "device": "cpu",
    "precision": "fp32",
    "memory_format": "channels_last",
    "mode": "direct",
    "micro_batch": 8,
    "threads": 1,
}


def toy_settings(**data: Any) -> Settings:
    """Settings of the toy run; `data` goes to that section."""
    return Settings.model_validate(
        {
            "method": {"name": "simclr"},
            "model": {"backbone": "resnet18", "width": 0.0625},
            "data": {"images": 64, "size": 16, **data},
            "augment": {"crop": {"scale": (0.5, 1.0)}},
        }
    )


def write_run(folder: Path, settings: Settings, images: int | None = None) -> Objective:
    """Save a checkpoint of step 7 with changed weights, always the same; return the objective in evaluation mode."""
    objective = build_objective(settings, torch.device("cpu"), images)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=draw))
    state = {
        "settings": settings.model_dump(mode="json"),
        "resolved": RESOLVED,
        "objective": objective.state_dict(),
        "optimiser": {},
        "step": 7,
        "epoch": 0,
        "cursor": 7,
        "rng": {"seed": settings.run.seed},
    }
    (folder / "checkpoints").mkdir(parents=True)
    checkpoint.save(folder / "checkpoints", state, keep=2)
    return objective.eval()
