"""The settings of a resumed run: those in its folder, except for what the command line may change."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ssl_cli import disk
from ssl_cli.config.flags import ARGUMENT
from ssl_cli.config.toml_file import parse_toml
from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_epochs
from ssl_cli.errors import CheckpointError, DataError, UsageError
from ssl_cli.names import decode_paths, is_there, shown
from ssl_cli.registry import TRANSFERS

CHANGEABLE = {
    "schedule.epochs", "run.log_every", "run.checkpoint_every", "run.keep", "run.max_time", "run.out", "run.evaluate",
    "run.monitor", "run.stop_on_collapse", "run.trackers",
    "data.on_bad_image", "data.threads", "data.cache", "data.cache_folder", "data.folder", "data.download",
}  # fmt: skip
"""Settings that do not change what a step computes."""
REPLANNING = {"hardware.micro_batch", "hardware.memory", "hardware.mode"}
"""Settings of the micro-batch plan: the gradient is the same up to rounding."""
PLACES = {"data.source", "data.test"}
"""Where the images lie, which may change where it is checked that they are the same."""
DEVICE, START = "hardware.device", "model.init_from"
MEASURED = {"data.range", "data.depth"}
"""Settings that `auto` measures, and a run records."""


@dataclass(frozen=True)
class Continuation:
    """How a run is resumed.

    Attributes:
        settings: the settings of the run, with the changes.
        notes: sentences on the changes, for the user.
        replan: whether to plan the micro-batches again, since one of `REPLANNING` changed.
        device: the device given on the command line; None: that of the run.
    """

    settings: Settings
    notes: list[str]
    replan: bool
    device: str | None = None


def continued(
    settings: Settings, origins: Mapping[str, str], file: Path, saved: Mapping[str, Any] | None = None,
    sized: Mapping[str, Any] = MappingProxyType({}), *, known: bool = False,
) -> Continuation:  # fmt: skip
    """Read the settings of the run and apply what the command line changes.

    Environment and files are for new runs and are ignored.

    Args:
        settings: as for a new run.
        origins: where each of their values comes from, by dotted key.
        file: `settings.toml` of the run.
        saved: the settings in its checkpoint, which are used where the file is gone or damaged.
        sized: values that its plan chose for settings that are open in the file, by dotted key.
        known: whether its images have a fingerprint, by which they are known wherever they lie.

    Raises:
        UsageError: the run is another command's; or the command line changes what a step computes, or does not name the
            run's own method class again.
        CheckpointError: the settings of the run cannot be read.
        DataError: its images are no longer where they were.
    """
    notes, replan, device = [], False, None
    changeable = CHANGEABLE | REPLANNING | (PLACES if known else set())
    try:
        table = parse_toml(disk.read_bytes(file).decode())
        before = Settings.model_validate(decode_paths(table))
    except (OSError, ValueError) as error:
        if saved is None:
            raise CheckpointError(f"{file} is damaged: {' '.join(str(error).split())[:200]}.", "Restore it.") from error
        notes.append(f"{file} is gone or damaged; the settings in the checkpoint are used.")
        before = settings_of(saved)
    _require_same_method(before.method.name, settings.method.name, shown(str(file.parent)))
    old, new = before.model_dump(), settings.model_dump()
    old["run"]["max_time"], old["data"]["download"] = None, False  # they were those of an earlier process
    for key, origin in origins.items():
        is_open = key in before.run.fit and key in sized
        value, wanted = sized[key] if is_open else _at(old, key), _at(new, key)
        if not (origin.startswith(("--", ARGUMENT)) or origin in {"DATA", "RUN", "the command line"}):
            continue
        if key == DEVICE:
            device = wanted  # also where it is `auto` as before: another may be the best one here
        elif value == wanted or _is_recorded(key, value, wanted) or (is_open and value == _as_json(wanted)):
            continue
        elif key not in changeable:
            raise UsageError(
                f"{key} is {'not set' if value is None else value} in this run and cannot become {wanted} ({origin}).",
                "Leave it out to continue as before, or start another run with another --out.",
            )
        section, _, name = key.partition(".")
        old[section][name] = wanted
        replan |= key in REPLANNING
        if key == "schedule.epochs":
            old["run"]["fit"] = [other for other in before.run.fit if other != key]  # it no longer follows the time
            now, then = format_epochs(wanted), format_epochs(value)
            notes.append(f"The run now has {now} epochs instead of {then}; its learning rates are recomputed.")
    settings = Settings.model_validate(old)
    _require_places(settings.data.places if known else ())
    return Continuation(settings, notes, replan, device)


def _require_same_method(name: str, wanted: str, folder: str) -> None:
    kind, asked = (of if of in TRANSFERS else "pretrain" for of in (name, wanted))
    if kind != asked:
        raise UsageError(f"{folder} is a run of {kind}, not of {asked}.", f"sslcli {kind} --resume --out {folder}")
    if ":" in name and wanted != name:  # code is not run because a file names it
        raise UsageError(f"This run was made by {name}, code of your own.", f"Add --method {name} to run it.")


def _require_places(places: Sequence[str]) -> None:
    for place in places:
        if os.sep in place and not is_there(Path(place)):
            what = f"The images of this run are no longer at {shown(place)}."
            raise DataError(what, "If they have moved, give their new place as DATA in addition to --resume and --out.")


def settings_of(saved: Mapping[str, Any]) -> Settings:
    """Return the settings that a checkpoint holds.

    Raises:
        CheckpointError: they are not valid.
    """
    try:
        return Settings.model_validate(saved)
    except ValueError as error:
        words = str(error).replace("\n", " ")
        raise CheckpointError("The settings in the checkpoint cannot be read.", words) from error


def _is_recorded(key: str, value: Any, wanted: Any) -> bool:
    """Whether a run recorded `value` of what was asked for: the checkpoint of a run folder, or what was measured."""
    return bool(key == START and value and Path(value).is_relative_to(wanted)) or (key in MEASURED and wanted == "auto")


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _at(tree: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, None where there is none."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
