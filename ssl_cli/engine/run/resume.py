"""Going on with a run: its own settings, but for what may differ."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssl_cli.config.tree import Settings
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import CheckpointError, UsageError

# What may differ between a run and its continuation: nothing that changes what a step computes.
FREE = {
    "schedule.epochs", "run.log_every", "run.checkpoint_every", "run.keep", "run.max_time", "run.out", "run.evaluate",
    "run.monitor", "run.stop_on_collapse",
    "data.threads", "data.cache",
}  # fmt: skip
# Nor does what decides how a batch is divided: the gradient is the same up to rounding.
DIVIDING = {"hardware.micro_batch", "hardware.memory", "hardware.mode"}


@dataclass(frozen=True)
class Continuation:
    """How a run goes on: its settings, what to tell of them, and whether its batch is to be divided anew."""

    settings: Settings
    notes: list[str]
    divides: bool


def continued(settings: Settings, origins: Mapping[str, str], folder: RunFolder) -> Continuation:
    """The settings of the run in `folder`, with what may differ taken from the command line.

    Environment, project and user files speak of new runs and are passed over.

    Raises:
        UsageError: the command line asks for something else that this run cannot become.
        CheckpointError: its settings cannot be read.
    """
    try:
        kept = Settings.model_validate(tomllib.loads(folder.settings_file.read_text(encoding="utf-8")))
    except ValueError as error:
        hint = "Restore it, or start anew with --overwrite."
        raise CheckpointError(f"{folder.settings_file} is damaged.", hint) from error
    if ":" in kept.method.name and settings.method.name != kept.method.name:
        # a file found by a name in another file is not run unasked
        raise UsageError(
            f"This run was made by {kept.method.name}, code of your own.", f"Add --method {kept.method.name} to run it."
        )
    old, new = kept.model_dump(), settings.model_dump()
    old["run"]["max_time"] = None  # it was the time of an earlier process
    notes, divides = [], False
    for key, origin in origins.items():
        before, after = _at(old, key), _at(new, key)
        if before == after or not _from_the_command_line(origin):
            continue
        if key not in FREE | DIVIDING:
            raise UsageError(
                f"{key} is {before} in this run and cannot become {after} ({origin}).",
                "Leave it out to go on as before, or start another run with another --out.",
            )
        section, _, name = key.partition(".")
        old[section][name] = after
        divides |= key in DIVIDING
        if key == "schedule.epochs":
            notes.append(f"The run now has {after} epochs instead of {before}; its learning rates are recomputed.")
    return Continuation(Settings.model_validate(old), notes, divides)


def _from_the_command_line(origin: str) -> bool:
    return origin.startswith("--") or origin in {"DATA", "the command line"}


def _at(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
