"""The run folder: all files of a run, locked by one process at a time."""

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

import psutil
import tomli_w

from ssl_cli import __version__, disk, events
from ssl_cli.config.tree import Settings
from ssl_cli.data.search import closest_path
from ssl_cli.errors import CheckpointError, LockedError, ResourceError, UsageError
from ssl_cli.names import encode_paths, is_file, is_folder, is_there, shown

SCHEMA = 1


class RunFolder:
    """Create or open a run folder and lock it until it is closed or the process ends.

    Args:
        path: the folder.
        resume: whether a folder that holds a run may be resumed.
        overwrite: whether the run in it may be deleted first.

    Raises:
        UsageError: the folder is not empty and neither applies, or it holds no run.
        LockedError: another process uses it.
        ResourceError: it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.settings_file = path / "settings.toml"
        refuse_unfit(path, resume=resume, overwrite=overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path / ".lock")
            if overwrite:
                _delete_run(path)
            self.write_status("running")  # before all else: it marks the folder as a run, should we be killed
            self.checkpoints.mkdir(exist_ok=True)
            for folder in (path, self.checkpoints):
                disk.remove_temporary_files(folder)
            for name in ("metrics.jsonl", "bad_images.jsonl"):
                _truncate_partial_line(path / name)
            self._metrics = (path / "metrics.jsonl").open("a", encoding="utf-8")
            self._log = (path / "train.log").open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ResourceError(f"Cannot write in {path}: {error.strerror}.", "Choose another --out.") from error

    def write_settings(self, settings: Settings) -> None:
        """Write `settings.toml`: every value of the tree but None, paths by `encode_paths`."""
        table = encode_paths(settings.model_dump(mode="json", exclude_none=True))
        disk.write_bytes(self.settings_file, tomli_w.dumps(table).encode())

    def write_plan(self, planned: events.Planned, resolved: dict[str, Any]) -> None:
        """Write `plan.json`: the choices with their reasons, the estimates, and the resolved values for a resume."""
        facts = events.record(planned)
        plan = {key: facts[key] for key in ("schema", "choices", "expected")}
        disk.write_json(self.path / "plan.json", {**plan, "resolved": resolved})

    def amend_plan(self, **facts: Any) -> None:
        """Replace entries of `plan.json`; an entry given as None is removed."""
        plan = {key: value for key, value in {**self.read_plan(), **facts}.items() if value is not None}
        disk.write_json(self.path / "plan.json", plan)

    def read_plan(self) -> dict[str, Any]:
        """Read `plan.json`; empty where there is none or it is damaged."""
        return _read_json(self.path / "plan.json")

    def write_environment(self, versions: dict[str, str]) -> None:
        """Write `env.json`: versions of packages and the machine."""
        versions = {"sslcli": __version__, "python": sys.version.split()[0], **versions}
        machine = {"processors": os.cpu_count(), "memory": psutil.virtual_memory().total}
        facts = {"schema": SCHEMA, **versions, "system": platform.platform(), **machine}
        disk.write_json(self.path / "env.json", facts)

    def write_status(self, state: str, exit_code: int | None = None, reason: str = "") -> None:
        """Write `status.json`; `state` is running, finished, stopped or failed."""
        _write_status(self.path, state, exit_code, reason)

    def record(self, event: events.Event) -> None:
        """Append the event to `metrics.jsonl` and `train.log`, and a skipped file to `bad_images.jsonl`.

        Raises:
            ResourceError: the disk is full.
        """
        fields = {k: v for k, v in dataclasses.asdict(event).items() if k not in {"time", "choices"}}
        self.log(f"{type(event).__name__.lower()} " + " ".join(f"{k}={v}" for k, v in fields.items()))
        try:
            line = json.dumps(events.record(event), allow_nan=False)
            self._metrics.write(line + "\n")
            self._metrics.flush()
            if isinstance(event, events.Skipped):
                with (self.path / "bad_images.jsonl").open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
        except OSError as error:
            raise ResourceError(f"Cannot write in {self.path}: {error.strerror}.", "Free some space.") from error

    def log(self, text: str) -> None:
        """Append the text to `train.log` with the date, control characters escaped; a failed write is ignored."""
        lines = "\n".join(shown(line, limit=5000) for line in text.splitlines())
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {lines}\n")
            self._log.flush()

    def discard(self) -> None:
        """Delete the folder, where no training has started in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Close the files and release the lock."""
        for file in (self._metrics, self._log, self._lock):
            file.close()


def status(path: Path) -> str | None:
    """Read the state in a run folder's `status.json`: running, finished, stopped or failed; None if there is none."""
    state = _read_json(path / "status.json").get("state")
    return None if state is None else str(state)


def settle_status(path: Path, state: str, exit_code: int, reason: str) -> bool:
    """Write the `status.json` of a run whose process ended without doing so; return whether it was needed.

    A rank that was stopped because another one failed has written `stopped`; a `failed` replaces it.
    """
    known = {"running", "stopped", "failed"} if state == "failed" else {"running"}
    if status(path) not in known:
        return False
    _write_status(path, state, exit_code, reason)
    return True


def default_path(method: str) -> Path:
    """Return `runs/<date-time>-<method>`, with a number behind it where that exists."""
    stem = time.strftime("%Y%m%d-%H%M%S") + "-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in method)
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path


def refuse_unfit(path: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder as `RunFolder` would; without torch, so that a command can ask first. None is a new folder.

    Raises:
        UsageError: the folder is not empty and neither applies, or it holds no run.
        LockedError: another process uses it.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other.", "Give one of them.")
    if path is None:
        if resume or overwrite:
            flag = "--resume" if resume else "--overwrite"
            raise UsageError(f"{flag} needs to know which run.", "Name its folder with --out.")
        return
    if is_there(path) and not is_folder(path):
        raise UsageError(f"--out {path} is a file.", "Give a folder.")
    try:
        _refuse_filled(path, resume=resume, overwrite=overwrite)
    except OSError as error:
        raise UsageError(f"--out {path} cannot be used: {error.strerror}.", "Choose another --out.") from error


def _refuse_filled(path: Path, *, resume: bool, overwrite: bool) -> None:
    is_run = (path / "status.json").is_file()
    if is_run:
        # refuse a folder whose lock is held; the file is closed, which releases it, before this returns
        with contextlib.suppress(OSError), (path / ".lock").open("r+", encoding="utf-8") as file:
            _hold(file, path)
        started = (path / "settings.toml").exists() or any((path / "checkpoints").glob("*"))
        if not started and not resume:
            return  # a start that failed before its first step
    if not path.is_dir() or all(entry.name.startswith(".") for entry in path.iterdir()):
        return
    if not is_run:
        raise UsageError(f"{path} is not empty and holds no run.", "Choose another --out; nothing was touched.")
    if not (resume or overwrite):
        raise UsageError(
            f"{path} is not empty.", "Continue it with --resume, replace it with --overwrite, or choose another --out."
        )


def require_run(run: str) -> None:
    """Refuse a path that can hold no checkpoint; without torch, so that a command can ask first.

    Raises:
        CheckpointError: there is no such file or folder, or a folder without a checkpoint.
    """
    path = Path(run)
    if is_file(path):
        return
    if not is_folder(path):
        near = closest_path(path)
        hint = f"Did you mean '{near}'?" if near else "Give the folder that pretrain --out named."
        raise CheckpointError(f"There is no run or checkpoint at {run}.", hint)
    with contextlib.suppress(OSError):  # a folder without permission is reported where it is opened
        if any((path / "checkpoints").glob("*.pt")):
            return
        inside = sorted(path.glob("*/checkpoints/*.pt"), key=lambda file: file.stat().st_mtime)
        hint = f"Did you mean '{inside[-1].parents[1]}'?" if inside else "Give a run folder that pretrain wrote."
        raise CheckpointError(f"There is no whole checkpoint in {run}.", hint)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_status(path: Path, state: str, exit_code: int | None, reason: str) -> None:
    facts = {"schema": SCHEMA, "state": state, "exit_code": exit_code, "reason": reason}
    disk.write_json(
        path / "status.json", {**facts, "pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    )


def _lock(path: Path) -> IO[str]:
    """Open and lock the file by a POSIX record lock: unlike flock it is not inherited, so it ends with this process."""
    file = path.open("a+", encoding="utf-8")
    try:
        _hold(file, path.parent)
    except LockedError:
        file.close()
        raise
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    file.flush()
    return file


def _hold(file: IO[str], folder: Path) -> None:
    """Lock an open file; a LockedError names the process that holds it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise LockedError(f"{folder} is in use by {holder}.", "Wait for it to end, or choose another --out.") from error


def _truncate_partial_line(path: Path) -> None:
    """Drop a last line without an end, which a killed process may have left."""
    if path.is_file():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _delete_run(path: Path) -> None:
    """Delete the files of a run, and nothing else in the folder."""
    # status.json stays: wherever this is interrupted, the rest is still marked as a run
    for name in ("checkpoints", "eval", "export"):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in ("plan.json", "env.json", "metrics.jsonl", "train.log", "bad_images.jsonl", "settings.toml"):
        (path / name).unlink(missing_ok=True)
