"""Checkpoints: tensors and primitives in one file, its sha256 in a .json next to it; the newest undamaged is used."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import torch

from ssl_cli import __version__, disk, tensor_file
from ssl_cli.errors import CheckpointError, ResourceError
from ssl_cli.names import decode_paths, encode_paths, is_there, shown
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


def save(folder: Path, state: dict[str, Any], keep: int, run: str = "") -> Path:
    """Write `folder/step_XXXXXXXX.pt` and its `.json`, then delete all but the newest `keep` of this `run`.

    Raises:
        ResourceError: the disk is full, or does not return what was written; earlier checkpoints are unchanged.
    """
    path = folder / f"step_{state['step']:08d}.pt"
    if not _of_run(path, run):
        disk.set_aside(path, path.with_suffix(".json"))
    versions = {"sslcli": __version__, "torch": str(torch.__version__)}
    content = {"schema": SCHEMA, "versions": versions, **state, "settings": encode_paths(state["settings"])}
    digest, size = disk.write_atomic(path, lambda file: torch.save(content, file))
    _write_facts(path, digest, size, state["step"], run)
    try:
        _verify(path)
    except CheckpointError as error:
        hint = "Check the disk; use another --out."
        raise ResourceError(f"The disk did not keep {path} as it was written.", hint) from error
    for old in _newest_first(folder, run)[keep:]:
        if old.with_suffix(".json").is_file():  # others were never verified
            old.unlink(missing_ok=True)
            old.with_suffix(".json").unlink(missing_ok=True)
    return path


def newest(folder: Path, run: str = "") -> tuple[dict[str, Any] | None, list[str]]:
    """Load the newest undamaged checkpoint of `run`, None if there is none, and a sentence on what was wrong.

    Note:
        A damaged file is renamed to `.corrupt`; nothing is deleted.

    Raises:
        CheckpointError: all are damaged, where starting over silently would lose the run; or one cannot be read here.
    """
    found = _newest_first(folder)
    ours = [path for path in found if _of_run(path, run)]
    warnings = [f"{path.name} belongs to another run, by its .json." for path in found if path not in ours]
    for path in ours:
        try:
            state = load(path)
            if not path.with_suffix(".json").exists():
                warnings.append(f"{path.name} has no .json with its sha256; it is whole by its checksums, and is used.")
                _write_facts(path, disk.sha256(path), path.stat().st_size, state["step"], run)
            return state, warnings
        except DamagedError as error:
            warnings.append(f"{error.message} The one before it is used.")
            disk.set_aside(path, path.with_suffix(".json"))
    if any(folder.glob("*.corrupt*")):
        raise CheckpointError(
            f"None of the checkpoints in {folder} is whole.", "Start a new run with another --out, or with --overwrite."
        )
    return None, warnings


def locate(run: str) -> tuple[Path, str]:
    """Return the path and the sha256, with which `load` need not read it twice, of a checkpoint.

    `run` is the file itself, or a run folder, whose newest undamaged checkpoint it is.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    require_run(run)
    path = Path(run)
    if path.is_file():
        try:
            return path, disk.sha256(path)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    for candidate in _newest_first(path / "checkpoints"):
        try:
            return candidate, _verify(candidate)
        except DamagedError:
            continue
    raise CheckpointError(f"There is no whole checkpoint in {run}.", "Give a run folder that pretrain wrote.")


def reopen(run: str, before: str | None) -> tuple[Path, str]:
    """Return absolute path and sha256 of what a run starts from, which is the file that it started from before.

    Args:
        run: run folder or file.
        before: its sha256 then; None: nothing started from it yet.

    Raises:
        CheckpointError: it is gone, or another.
    """
    hint = "Restore it, or start another run with another --out."
    if before is not None and not is_there(Path(run)):
        raise CheckpointError(f"The checkpoint that the run starts from is gone: {shown(run)}.", hint)
    path, digest = locate(run)
    if before not in {None, digest}:
        raise CheckpointError(f"{shown(run)} is not as it was when the run started from it.", hint)
    return path.absolute(), digest


def newer_than(path: Path) -> list[Path]:
    """List checkpoints of the same run that are newer than `path`, which `find` skipped because they are damaged."""
    paths = _newest_first(path.parent) if path.parent.name == "checkpoints" else []
    return paths[: paths.index(path)] if path in paths else []


def load(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Verify the sha256 of a checkpoint, then read it to the CPU; no code in it is executed.

    Args:
        path: the file.
        sha256: of its content, where it was computed just now.

    Raises:
        DamagedError: its content differs from what was written.
        CheckpointError: it is not ours, or of another version of the format.
    """
    _verify(path, sha256)
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


def _write_facts(path: Path, digest: str, size: int, step: int, run: str) -> None:
    facts = {"schema": SCHEMA, "sha256": digest, "size": size, "step": step, "run": run}
    disk.write_json(path.with_suffix(".json"), facts)


def _verify(path: Path, sha256: str | None = None) -> str:
    """Compare the file with the sha256 in its `.json`, without it with its own checksums; return its sha256."""
    facts = path.with_suffix(".json")
    try:
        disk.require_file(path)
        digest = sha256 or disk.sha256(path)
        if not os.path.lexists(facts):
            tensor_file.require_intact(path)
        elif digest != disk.read_json(facts)["sha256"]:
            raise DamagedError(f"{path} is damaged: its sha256 differs from the one written with it.")
        return digest
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise DamagedError(f"{path} is damaged: it, or its .json, is not a file.") from error
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError) as error:
        what = "its .json has no sha256" if isinstance(error, KeyError) else error
        raise DamagedError(f"{path} is damaged, or not a checkpoint: {what}.", OURS) from error


def _newest_first(folder: Path, run: str = "") -> list[Path]:
    """List the files named like a checkpoint by step, newest first, without those whose `.json` names another run."""
    named = [path for path in folder.iterdir() if re.fullmatch(r"step_\d{8,18}\.pt", path.name)]
    return [path for path in sorted(named, key=lambda path: int(path.stem[5:]), reverse=True) if _of_run(path, run)]


def _of_run(path: Path, run: str) -> bool:
    """Return whether a checkpoint belongs to `run` by its `.json`; True where either names no run."""
    try:
        found = disk.read_json(path.with_suffix(".json")).get("run")
    except (OSError, ValueError):
        return True
    return not run or not found or found == run
