"""Paths of run folders that a command line names, or not: checked without torch, so that a command can ask first."""

import contextlib
import hashlib
import os
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from ssl_cli import disk, lock, records, status
from ssl_cli.data.search import closest_path
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.names import is_file, is_folder, is_there, shown


def default_path(method: str) -> Path:
    """Return `runs/<date-time>-<method>`, with a number behind it where that exists."""
    stem = time.strftime("%Y%m%d-%H%M%S") + "-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in method)
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path


def refuse_unfit(path: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that `RunFolder` would refuse, before anything is written; None: a new folder is made.

    Raises:
        UsageError: both flags are set; or the folder holds a run and neither is; or it holds other files and no run.
        LockedError: another process uses it.
        ResourceError: it cannot be written to, or created.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other.", "Give one of them.")
    if path is None:
        if resume or overwrite:
            flag = "--resume" if resume else "--overwrite"
            raise UsageError(f"{flag} needs to know which run.", "Name its folder with --out.")
        return
    refuse_no_folder(path)
    try:
        _refuse_filled(path, resume=resume, overwrite=overwrite)
    except OSError as error:
        raise UsageError(f"--out {path} cannot be used: {error.strerror}.", "Choose another --out.") from error


def refuse_no_folder(path: Path) -> None:
    """Refuse a path at which something else than a folder is, or which cannot be written to.

    Raises:
        UsageError: it is no folder.
        ResourceError: it cannot be written to, or created.
    """
    if os.path.lexists(path) and not is_folder(path):
        what = "a file" if is_file(path) else "a link to nothing" if path.is_symlink() else "not a folder"
        raise UsageError(f"--out {path} is {what}.", "Give a folder.")
    disk.require_writable(path, f"in {shown(str(path))}", "Choose another --out.")


def _refuse_filled(path: Path, *, resume: bool, overwrite: bool) -> None:
    # listed first: a run that starts there at this moment writes its status before all that is listed
    filled = path.is_dir() and not all(entry.name.startswith(".") for entry in path.iterdir())
    is_run = bool(status.read(path)) or (resume and bool(run_of_checkpoints(path)))
    if is_run:
        lock.require_free(path)
        if not is_started(path) and not resume:
            return  # a start that failed before its first step
    if not filled:
        return
    if not is_run:
        raise UsageError(f"{path} is not empty and holds no run.", "Choose another --out; nothing was touched.")
    if not (resume or overwrite):
        raise not_empty(path)


def run_of_checkpoints(path: Path) -> str:
    """Return the run's id by the newest `.json` of a checkpoint, where `status.json` is lost; empty if none has it."""
    for file in sorted((path / "checkpoints").glob("step_*.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            found = disk.read_json(file).get("run")
            if isinstance(found, str) and re.fullmatch("[0-9a-f]{32}", found):
                return found
    return ""


def is_started(path: Path) -> bool:
    """Whether the run in the folder got beyond its plan."""
    return (path / "settings.toml").exists() or any((path / "checkpoints").glob("*"))


def has_trained(path: Path) -> bool:
    """Whether the run in the folder got beyond its plan, though its checkpoints and settings may be lost."""
    return is_started(path) or any(event["event"] == "started" for event in records.events(path))


def nothing_to_resume(path: Path, what: str, start: str) -> UsageError:
    """Return the error about a folder in which there is nothing to resume.

    Args:
        path: the folder.
        what: what it would hold, such as `run`.
        start: the command line that starts one, without `--out`.
    """
    name = shown(str(path))
    if status.read(path):
        message = f"The {what} in {name} ended before its first step: there is nothing to resume yet."
    else:
        message = f"There is no {what} in {name} to resume."
    near = None if is_there(path) else closest_path(path)
    again = f"To start one: {start} --out {shlex.quote(name)}"
    return UsageError(message, f"Did you mean '{shown(near)}'?" if near else again)


def not_empty(path: Path) -> UsageError:
    """Return the error about a folder that holds a run."""
    hint = "Continue it with --resume, replace it with --overwrite, or choose another --out."
    return UsageError(f"{path} is not empty.", hint)


def result_file(name: str, step: str, data: Sequence[object], words: Sequence[str]) -> str:
    """Name the file in `eval/` of one evaluation, such as `knn-h-k200-T0.1-step_00000448-photos-3f2a91c0.json`.

    Args:
        name: of the evaluation.
        step: the checkpoint's name.
        data: what identifies the images, the bank's name first: other images have another file.
        words: the evaluation's settings.
    """
    short = re.sub(r"[^\w.]+", "-", Path(str(data[0])).name).strip("-")[:40]
    digest = hashlib.sha256(os.fsencode("\n".join(map(str, data)))).hexdigest()[:8]
    return "-".join(filter(None, (name, *words, step, short, digest))) + ".json"


def require_run(run: str, hint: str = "Give the folder that pretrain --out named.") -> None:
    """Refuse a path that can hold no checkpoint; `hint` says what would do where nothing has a similar name.

    Raises:
        CheckpointError: there is no such file or folder, or a folder without a checkpoint.
    """
    path = Path(run)
    if is_file(path):
        return
    if not is_folder(path):
        near = closest_path(path)
        raise CheckpointError(f"There is no run or checkpoint at {run}.", f"Did you mean '{near}'?" if near else hint)
    checkpoints = path / "checkpoints"
    if is_folder(checkpoints) and not os.access(checkpoints, os.R_OK | os.X_OK):
        raise CheckpointError(f"{shown(str(checkpoints))} may not be read.", "Give a run that you may read.")
    with contextlib.suppress(OSError):  # a folder without permission is reported where it is opened
        if any((path / "checkpoints").glob("*.pt")):
            return
        inside = sorted(path.glob("*/checkpoints/*.pt"), key=lambda file: file.stat().st_mtime)
        hint = f"Did you mean '{inside[-1].parents[1]}'?" if inside else "Give a run folder; sslcli runs lists them."
        is_run = status.read(path) or any((path / "checkpoints").glob("*"))
        raise CheckpointError(f"There is no whole checkpoint in {run}." if is_run else f"{run} is no run.", hint)
