"""A run too small to learn anything: the embedded data at 16 pixels, a network of four channels, one checkpoint."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ssl_cli import checkpoint
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.events import Evaluated, Event
from ssl_cli.objective import Objective

RESOLVED = {
    "device": "cpu",
    "precision": "fp32",
    "memory_format": "channels_last",
    "mode": "direct",
    "micro_batch": 8,
    "threads": 1,
}


def toy_settings(model: Mapping[str, Any] = MappingProxyType({}), method: str = "simclr", **data: Any) -> Settings:
    """Settings of the toy run; `model` and `data` go to these sections."""
    return Settings.model_validate(
        {
            "method": {"name": method},
            "model": {"backbone": "resnet18", "width": 0.0625, **model},
            "data": {"images": 64, "size": 16, **data},
            "augment": {"crop": {"scale": (0.5, 1.0)}},
        }
    )


def evaluated(events: Iterable[Event]) -> Evaluated:
    """The last of the events, which must be a result."""
    *_, event = events
    assert isinstance(event, Evaluated)
    return event


def result_of(events: Iterable[Event]) -> dict[str, Any]:
    """The result that the last of the events holds."""
    return dict(evaluated(events).result)


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
