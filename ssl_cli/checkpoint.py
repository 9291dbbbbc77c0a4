"""Write checkpoints: tensors and primitives in one file, its sha256 in a .json next to it; the newest ones are kept."""

from pathlib import Path
from typing import Any

import torch

from ssl_cli import __version__, disk
from ssl_cli.checkpoint_file import SCHEMA, DamagedError, find, load, newer_than, newest_first, of_run, verify
from ssl_cli.errors import CheckpointError, ResourceError
from ssl_cli.names import encode_paths

__all__ = ["DamagedError", "find", "load", "newer_than", "newest", "save"]


def save(folder: Path, state: dict[str, Any], keep: int, run: str = "") -> Path:
    """Write `folder/step_XXXXXXXX.pt` and its `.json`, then delete all but the newest `keep` of this `run`.

    Raises:
        ResourceError: the disk is full, or does not return what was written; earlier checkpoints are unchanged.
    """
    path = folder / f"step_{state['step']:08d}.pt"
    if not of_run(path, run):
        disk.set_aside(path, path.with_suffix(".json"))
    versions = {"sslcli": __version__, "torch": str(torch.__version__)}
    content = {"schema": SCHEMA, "versions": versions, **state, "settings": encode_paths(state["settings"])}
    digest, size = disk.write_atomic(path, lambda file: torch.save(content, file))
    _write_facts(path, digest, size, state["step"], run)
    try:
        verify(path)
    except CheckpointError as error:
        hint = "Check the disk; use another --out."
        raise ResourceError(f"The disk did not keep {path} as it was written.", hint) from error
    for old in newest_first(folder, run)[keep:]:
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
    found = newest_first(folder)
    ours = [path for path in found if of_run(path, run)]
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


def _write_facts(path: Path, digest: str, size: int, step: int, run: str) -> None:
    facts = {"schema": SCHEMA, "sha256": digest, "size": size, "step": step, "run": run}
    disk.write_json(path.with_suffix(".json"), facts)
