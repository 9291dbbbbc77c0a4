"""The settings that have a short name: a flag of the command line, an argument of `ssl_cli.train`."""

from collections.abc import Mapping, Sequence
from typing import Any

SETTINGS = {
    "data": "data.source",
    "method": "method.name",
    "backbone": "model.backbone",
    "width": "model.width",
    "batch": "run.batch",
    "epochs": "schedule.epochs",
    "image_size": "data.size",
    "lr": "optim.lr",
    "recipe": "run.recipe",
    "seed": "run.seed",
    "device": "hardware.device",
    "precision": "hardware.precision",
    "micro_batch": "hardware.micro_batch",
    "memory": "hardware.memory",
    "compile": "hardware.compile",
    "time": "run.time",
    "max_time": "run.max_time",
    "out": "run.out",
    "test_data": "data.test",
    "download": "data.download",
    "init_from": "model.init_from",
    "pretrained": "model.pretrained",
    "threads": "data.threads",
    "on_bad_image": "data.on_bad_image",
    "group_by": "data.group_by",
    "tracker": "run.trackers",
}
FLAG_NAMES = {
    key: "DATA" if name == "data" else f"--{name.replace('_', '-')}" for name, key in SETTINGS.items()
}  # the origin to name in messages
ARGUMENT = "the argument "
"""What the origin of a value begins with that is an argument of a function of ours."""


def flags(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings among a command's parameters, as nested tables."""
    tables: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        if name in SETTINGS:
            section, _, key = SETTINGS[name].partition(".")
            tables.setdefault(section, {})[key] = places(value) if name == "data" else value
    return tables


def places(data: Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Return the setting `data.source` of what was given as DATA: one place, several, or None."""
    return (data[0] if len(data) == 1 else tuple(data)) if data else None
