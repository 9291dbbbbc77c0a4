"""Read checkpoints: the newest undamaged one of a run, or a file; its sha256 is in a .json next to it."""

import errno
import os
import re
from pathlib import Path
from typing import Any

from ssl_cli import disk, tensor_file
from ssl_cli.errors import CheckpointError
from ssl_cli.names import decode_paths
from ssl_cli.run_path import require_run

SCHEMA = 1
PARTS = {
    "schema": int, "versions": dict, "settings": dict, "resolved": dict, "objective": dict, "optimiser": dict,
    "step": int, "epoch": int, "cursor": int, "rng": dict,
}  # fmt: skip
OURS = "Give a run folder, or a file that pretrain wrote."
NOT_A_FILE = (errno.EINVAL, errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


class DamagedError(CheckpointError):
    """The content of a checkpoint differs from what was written."""


def find(run: str) -> Path:
    """Return the path of a checkpoint: `run` itself if it is a file, else the newest undamaged one in the run folder.

    Raises:
        CheckpointError: there is none.
    """
    require_run(run)
    path = Path(run)
    if path.is_file():
        return path
    for candidate in newest_first(path / "checkpoints"):
        try:
            verify(candidate)
        except DamagedError:
            continue
        return candidate
    raise CheckpointError(f"There is no whole checkpoint in {run}.", "Give a run folder that pretrain wrote.")


def newer_than(path: Path) -> list[Path]:
    """List checkpoints of the same run that are newer than `path`, which `find` skipped because they are damaged."""
    paths = newest_first(path.parent) if path.parent.name == "checkpoints" else []
    return paths[: paths.index(path)] if path in paths else []


def load(path: Path) -> dict[str, Any]:
    """Verify the sha256 of a checkpoint, then read it to the CPU; no code in it is executed.

    Raises:
        DamagedError: its content differs from what was written.
        CheckpointError: it is not ours, or of another version of the format.
    """
    verify(path)
    try:
        state = tensor_file.load(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}.", OURS) from error
    if not isinstance(state, dict) or not PARTS.keys() <= state.keys():
        raise CheckpointError(f"{path} is not a checkpoint of sslcli.", "Give a file that pretrain wrote.")
    if state["schema"] != SCHEMA:
        raise CheckpointError(f"{path} has format {state['schema']!r:.40}, this version reads {SCHEMA}.")
    for name, kind in PARTS.items():
        if type(state[name]) is not kind or (kind is int and state[name] < 0):
            raise CheckpointError(f"{path} is not a checkpoint of sslcli: its '{name}' is {state[name]!r:.40}.")
    known = list(state["non_finite"]) if isinstance(state.get("non_finite"), list) else []
    for name in tensor_file.non_finite(state["objective"], state["optimiser"], known=known):
        raise DamagedError(f"{path} holds numbers that are not finite, in '{name}'.", "Give an earlier checkpoint.")
    return {**state, "settings": decode_paths(state["settings"])}


def verify(path: Path) -> None:
    """Compare the file with the sha256 in its `.json`, or where that is gone with its own checksums."""
    facts = path.with_suffix(".json")
    try:
        disk.require_file(path)
        if not os.path.lexists(facts):
            tensor_file.require_intact(path)
        elif disk.sha256(path) != disk.read_json(facts)["sha256"]:
            raise DamagedError(f"{path} is damaged: its sha256 differs from the one written with it.")
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise DamagedError(f"{path} is damaged: it, or its .json, is not a file.") from error
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError) as error:
        what = "its .json has no sha256" if isinstance(error, KeyError) else error
        raise DamagedError(f"{path} is damaged, or not a checkpoint: {what}.", OURS) from error


def newest_first(folder: Path, run: str = "") -> list[Path]:
    """List the files named like a checkpoint by step, newest first, without those whose `.json` names another run."""
    named = [path for path in folder.iterdir() if re.fullmatch(r"step_\d{8,18}\.pt", path.name)]
    return [path for path in sorted(named, key=lambda path: int(path.stem[5:]), reverse=True) if of_run(path, run)]


def of_run(path: Path, run: str) -> bool:
    """Return whether a checkpoint belongs to `run` by its `.json`; True where either names no run."""
    try:
        found = disk.read_json(path.with_suffix(".json")).get("run")
    except (OSError, ValueError):
        return True
    return not run or not found or found == run
