"""The run folder: everything a run leaves behind, held by one process at a time."""

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

from ssl_cli import __version__, events
from ssl_cli.config.tree import Settings
from ssl_cli.data.search import closest_path
from ssl_cli.engine.run import disk
from ssl_cli.errors import CheckpointError, LockedError, ResourceError, UsageError
from ssl_cli.names import is_file, is_folder, is_there, shown

SCHEMA = 1


class RunFolder:
    """An open run folder, locked against other processes until closed or dead.

    Args:
        path: the folder.
        resume: whether a folder that holds a run may be continued.
        overwrite: whether a folder that holds a run may be emptied first.

    Raises:
        UsageError: the folder is not empty and neither applies, or holds no run.
        LockedError: another process works in it.
        ResourceError: it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        refuse_unfit(path, resume=resume, overwrite=overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path / ".lock")
            if overwrite:
                _empty(path)
            self.write_status("running")  # first of all: it marks the folder as a run, whenever we are killed
            self.checkpoints.mkdir(exist_ok=True)
            for folder in (path, self.checkpoints):
                disk.remove_leftovers(folder)
            for name in ("metrics.jsonl", "bad_images.jsonl"):
                _end_last_line(path / name)
            self._metrics = (path / "metrics.jsonl").open("a", encoding="utf-8")
            self._log = (path / "train.log").open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ResourceError(f"Cannot write in {path}: {error.strerror}.", "Choose another --out.") from error

    @property
    def settings_file(self) -> Path:
        """Where the run's settings are."""
        return self.path / "settings.toml"

    def write_settings(self, settings: Settings) -> None:
        """Write `settings.toml`, all values settled."""
        text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
        disk.write_text(self.settings_file, text)

    def write_plan(self, planned: events.Planned, resolved: dict[str, Any]) -> None:
        """Write `plan.json`: the choices with their reasons, what to expect, and what a resumed run takes over."""
        facts = {
            key: value for key, value in events.record(planned).items() if key in {"schema", "choices", "expected"}
        }
        self._write_plan({**facts, "resolved": resolved})

    def amend_plan(self, **facts: Any) -> None:
        """Replace some of what `plan.json` says; None takes it out."""
        self._write_plan({key: value for key, value in {**self.read_plan(), **facts}.items() if value is not None})

    def _write_plan(self, facts: dict[str, Any]) -> None:
        disk.write_text(self.path / "plan.json", json.dumps(facts, indent=1))

    def read_plan(self) -> dict[str, Any]:
        """What an earlier process of this run planned; empty if it did not come so far."""
        try:
            found = json.loads((self.path / "plan.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_environment(self, versions: dict[str, str]) -> None:
        """Write `env.json`: versions and the machine."""
        facts = {
            "schema": SCHEMA,
            "sslcli": __version__,
            "python": sys.version.split()[0],
            **versions,
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "memory": psutil.virtual_memory().total,
        }
        disk.write_text(self.path / "env.json", json.dumps(facts, indent=1))

    def write_status(self, state: str, exit_code: int | None = None, reason: str = "") -> None:
        """Write `status.json`; `state` is running, finished, stopped or failed."""
        _write_status(self.path, state, exit_code, reason)

    def record(self, event: events.Event) -> None:
        """Append the event to `metrics.jsonl` and `train.log`, and a skipped file to `bad_images.jsonl`."""
        self._log_event(event)
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
        """Append a dated line, or several, to `train.log`; a log that cannot be written stops nothing."""
        lines = "\n".join(shown(line, limit=5000) for line in text.splitlines())  # it will be read in a terminal
        try:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {lines}\n")
            self._log.flush()
        except OSError:
            return

    def _log_event(self, event: events.Event) -> None:
        fields = {k: v for k, v in dataclasses.asdict(event).items() if k not in {"time", "choices"}}
        self.log(f"{type(event).__name__.lower()} " + " ".join(f"{k}={v}" for k, v in fields.items()))

    def discard(self) -> None:
        """Remove a folder in which nothing was begun."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Let others in."""
        for file in (self._metrics, self._log, self._lock):
            file.close()


def _write_status(path: Path, state: str, exit_code: int | None, reason: str) -> None:
    facts = {
        "schema": SCHEMA,
        "state": state,
        "exit_code": exit_code,
        "reason": reason,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "time": time.time(),
    }
    disk.write_text(path / "status.json", json.dumps(facts, indent=1))


def status(path: Path) -> str | None:
    """What a run folder's `status.json` says: running, finished, stopped or failed; None where it says nothing."""
    try:
        return str(json.loads((path / "status.json").read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def settle_status(path: Path, state: str, exit_code: int, reason: str) -> bool:
    """Write the `status.json` of a run whose process is gone and could not; False: it has said so itself.

    Whoever was stopped because another process failed does not know, and is put right.
    """
    known = {"running", "stopped", "failed"} if state == "failed" else {"running"}
    if status(path) not in known:
        return False
    _write_status(path, state, exit_code, reason)
    return True


def default_path(method: str) -> Path:
    """`runs/<date-time>-<method>`, a name not taken yet."""
    stem = time.strftime("%Y%m%d-%H%M%S") + "-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in method)
    path, count = Path("runs") / stem, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{stem}-{count}"
    return path


def refuse_unfit(path: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a run may not have: cheap, so that a command can ask before it imports torch.

    Args:
        path: the folder; None where one of a new name is to be made.
        resume: whether a run in it may be continued.
        overwrite: whether a run in it may be replaced.

    Raises:
        UsageError: the folder is not empty and neither applies, or holds no run.
        LockedError: another process works in it.
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
    started = is_run and ((path / "settings.toml").exists() or any((path / "checkpoints").glob("*")))
    if is_run:
        _refuse_used(path)
    if is_run and not started and not resume:
        return  # a start that failed before its first step left nothing to lose
    filled = path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir())
    if not filled:
        return
    if not is_run:
        raise UsageError(f"{path} is not empty and holds no run.", "Choose another --out; nothing was touched.")
    if not (resume or overwrite):
        raise UsageError(
            f"{path} is not empty.", "Go on with --resume, replace it with --overwrite, or choose another --out."
        )


def _refuse_used(path: Path) -> None:
    """Refuse a folder whose lock is held; held for a moment here, the lock is free again when this returns."""
    with contextlib.suppress(OSError), (path / ".lock").open("r+", encoding="utf-8") as file:
        _hold(file, path)


def require_run(run: str) -> None:
    """Refuse what can hold no checkpoint: cheap, so that a command can ask before it imports torch.

    Raises:
        CheckpointError: there is nothing of this name, or a folder without a checkpoint.
    """
    path = Path(run)
    if is_file(path):
        return
    if not is_folder(path):
        near = closest_path(path)
        hint = f"Did you mean '{near}'?" if near else "Give the folder that pretrain --out named."
        raise CheckpointError(f"There is no run or checkpoint at {run}.", hint)
    with contextlib.suppress(OSError):  # a folder that may not be read is told of by who opens it
        if any((path / "checkpoints").glob("*.pt")):
            return
        inside = sorted(path.glob("*/checkpoints/*.pt"), key=lambda file: file.stat().st_mtime)
        hint = f"Did you mean '{inside[-1].parents[1]}'?" if inside else "Give a run folder that pretrain wrote."
        raise CheckpointError(f"There is no whole checkpoint in {run}.", hint)


def _lock(path: Path) -> IO[str]:
    """Hold the file by a POSIX record lock: unlike flock it is not inherited, so it dies with this process."""
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
    """Lock an open file, or say who has locked it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise LockedError(f"{folder} is in use by {holder}.", "Wait for it to end, or choose another --out.") from error


def _end_last_line(path: Path) -> None:
    """A killed process may leave half a line; what comes next shall not stand on it."""
    if path.is_file():
        whole = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(whole[0]) + len(whole[1]))


def _empty(path: Path) -> None:
    """Delete what a run writes, and nothing else that may lie in the folder."""
    # status.json stays: whenever this is interrupted, what is left is still marked as a run
    for name in ("checkpoints", "eval", "export"):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in ("plan.json", "env.json", "metrics.jsonl", "train.log", "bad_images.jsonl", "settings.toml"):
        (path / name).unlink(missing_ok=True)
