"""Checkpoints: tensors and primitives in one file, its sha256 in a .json next to it; the newest undamaged is used."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from ssl_cli import __version__, disk
from ssl_cli.engine.run.folder import require_run
from ssl_cli.errors import CheckpointError
from ssl_cli.names import decode_paths, encode_paths

SCHEMA = 1
PARTS = ("schema", "versions", "settings", "resolved", "objective", "optimiser", "step", "epoch", "cursor", "rng")


class DamagedError(CheckpointError):
    """The content of a checkpoint differs from what was written."""


def save(folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write `folder/step_XXXXXXXX.pt` and its `.json`, then delete all but the newest `keep`.

    Raises:
        ResourceError: the disk is full; earlier checkpoints are unchanged.
    """
    path = folder / f"step_{state['step']:08d}.pt"
    versions = {"sslcli": __version__, "torch": str(torch.__version__)}
    content = {"schema": SCHEMA, "versions": versions, **state, "settings": encode_paths(state["settings"])}
    digest, size = disk.write_atomic(path, lambda file: torch.save(content, file))
    disk.write_json(
        path.with_suffix(".json"), {"schema": SCHEMA, "sha256": digest, "size": size, "step": state["step"]}
    )
    for old in _newest_first(folder)[keep:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
    return path


def newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Load the newest undamaged checkpoint, None if there is none, and a sentence on each damaged one that is newer.

    Note:
        A damaged file is renamed to `.corrupt`. One without its `.json` was not finished, and is deleted.

    Raises:
        CheckpointError: all are damaged, where starting over silently would lose the run; or one cannot be read here.
    """
    warnings: list[str] = []
    for path in _newest_first(folder):
        if not path.with_suffix(".json").is_file():
            path.unlink()
            continue
        try:
            return load(path), warnings
        except DamagedError as error:
            warnings.append(error.message)
            path.rename(path.with_suffix(".corrupt"))
    if any(folder.glob("*.corrupt")):
        raise CheckpointError(
            f"None of the checkpoints in {folder} is whole.", "Start a new run with another --out, or with --overwrite."
        )
    return None, warnings


def find(run: str) -> Path:
    """Return the path of a checkpoint: `run` itself if it is a file, else the newest undamaged one in the run folder.

    Raises:
        CheckpointError: there is none.
    """
    require_run(run)
    path = Path(run)
    if path.is_file():
        return path
    for candidate in _newest_first(path / "checkpoints"):
        try:
            _verify(candidate)
        except DamagedError:
            continue
        return candidate
    raise CheckpointError(f"There is no whole checkpoint in {run}.", "Give a run folder that pretrain wrote.")


def newer_than(path: Path) -> list[Path]:
    """List checkpoints of the same run that are newer than `path`, which `find` skipped because they are damaged."""
    paths = _newest_first(path.parent) if path.parent.name == "checkpoints" else []
    return paths[: paths.index(path)] if path in paths else []


def load(path: Path) -> dict[str, Any]:
    """Verify the sha256 of a checkpoint, then read it to the CPU; no code in it is executed.

    Raises:
        DamagedError: its content differs from what was written.
        CheckpointError: it is not ours, or of another version of the format.
    """
    _verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage happens to break
        raise CheckpointError(
            f"{path} is not a checkpoint: it cannot be read as one.",
            "Give a run folder, or a file that pretrain wrote.",
        ) from error
    if not isinstance(state, dict) or not set(PARTS) <= state.keys():
        raise CheckpointError(f"{path} is not a checkpoint of sslcli.", "Give a file that pretrain wrote.")
    if state["schema"] != SCHEMA:
        raise CheckpointError(f"{path} has format {state['schema']}, this version reads {SCHEMA}.")
    for name, tensor in state["objective"].items():
        # a tiny file may claim a huge tensor by strides of zero
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise CheckpointError(f"{path}: '{name}' claims more numbers than the file holds.")
    return {**state, "settings": decode_paths(state["settings"])}


def _verify(path: Path) -> None:
    """Compare the file with the sha256 in its `.json`; one without, outside of a run folder, is not checked."""
    try:
        facts = path.with_suffix(".json")
        if not facts.is_file():
            if path.parent.name == "checkpoints":
                raise DamagedError(f"{path} was not finished.")
            return
        if disk.sha256(path) != json.loads(facts.read_text(encoding="utf-8"))["sha256"]:
            raise DamagedError(f"{path} is damaged: its sha256 differs from the one written with it.")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged: its digest cannot be read.") from error


def _newest_first(folder: Path) -> list[Path]:
    named = [path for path in folder.iterdir() if re.fullmatch(r"step_\d{8,}\.pt", path.name)]
    return sorted(named, key=lambda path: int(path.stem[5:]), reverse=True)
