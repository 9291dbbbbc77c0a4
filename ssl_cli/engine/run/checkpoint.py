"""Checkpoints: tensors and primitives in one file, its sha256 beside it, the newest valid one found by looking."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ssl_cli import __version__
from ssl_cli.engine.run import disk
from ssl_cli.engine.run.folder import require_run
from ssl_cli.errors import CheckpointError


class DamagedError(CheckpointError):
    """The file's content is not what was written."""


SCHEMA = 1
PARTS = ("schema", "versions", "settings", "resolved", "objective", "optimiser", "step", "epoch", "cursor", "rng")


def versions() -> dict[str, str]:
    """Versions of what wrote the file."""
    return {"sslcli": __version__, "torch": str(torch.__version__)}


def save(folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write `folder/step_XXXXXXXX.pt` and its `.json`, then drop all but the newest `keep`.

    Raises:
        ResourceError: the disk is full; earlier checkpoints are untouched.
    """
    path = folder / f"step_{state['step']:08d}.pt"
    whole = {"schema": SCHEMA, "versions": versions(), **state}
    digest, size = disk.write_atomic(path, lambda file: torch.save(whole, file))
    facts = {"schema": SCHEMA, "sha256": digest, "size": size, "step": state["step"]}
    disk.write_text(path.with_suffix(".json"), json.dumps(facts))
    for old in _newest_first(folder)[keep:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
    return path


def newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence on each newer one that was not.

    A damaged file is set aside as `.corrupt`, so that a later look does not meet it again. One without its digest was
    cut off before it was finished, which is no damage: it is removed.

    Raises:
        CheckpointError: all there were are damaged, and starting over silently would lose the run; or one is whole
            but cannot be read here.
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
            shutil.move(path, path.with_suffix(".corrupt"))
    if list(folder.glob("*.corrupt")):
        raise CheckpointError(
            f"None of the checkpoints in {folder} is whole.", "Start a new run with another --out, or with --overwrite."
        )
    return None, warnings


def find(run: str) -> Path:
    """The checkpoint meant by `run`: a checkpoint file, or a run folder's newest whole one.

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


def passed_over(path: Path) -> list[Path]:
    """Checkpoints of the same run that are newer than the one at `path`, and so were not fit to be taken."""
    newest_first = _newest_first(path.parent) if path.parent.name == "checkpoints" else []
    return newest_first[: newest_first.index(path)] if path in newest_first else []


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint after checking its digest; nothing in it is executed.

    Raises:
        CheckpointError: damaged, foreign or from another version of the format.
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
    return state


def _verify(path: Path) -> None:
    try:
        facts = path.with_suffix(".json")
        if not facts.is_file():
            if path.parent.name == "checkpoints":  # in a run, a file without its digest was cut off
                raise DamagedError(f"{path} was not finished.")
            return
        expected = json.loads(facts.read_text())["sha256"]
        if disk.sha256(path) != expected:
            raise DamagedError(f"{path} is damaged: its sha256 differs from the one written beside it.")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged: its digest cannot be read.") from error


def _newest_first(folder: Path) -> list[Path]:
    named = [path for path in folder.iterdir() if re.fullmatch(r"step_\d{8,}\.pt", path.name)]
    return sorted(named, key=lambda path: int(path.stem[5:]), reverse=True)
