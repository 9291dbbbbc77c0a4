"""The run folder: all files of a run, locked by one process at a time."""

import contextlib
import dataclasses
import json
import os
import platform
import re
import sys
import time
import uuid
from pathlib import Path
from typing import IO, Any

import psutil
import tomli_w

from ssl_cli import __version__, cgroups, disk, events, lock, records, status
from ssl_cli.config.image_list import KEPT
from ssl_cli.config.tree import Settings
from ssl_cli.curves import FILE as CURVES
from ssl_cli.data.fingerprint import FILE as IMAGES
from ssl_cli.errors import write_error
from ssl_cli.names import encode_paths, is_folder, shown
from ssl_cli.records import METRICS, json_of
from ssl_cli.run_path import is_started, not_empty, refuse_unfit, run_of_checkpoints
from ssl_cli.trackers import places as trackers

SCHEMA = 1
FILES = ("plan.json", "env.json", METRICS, "train.log", "bad_images.jsonl", "settings.toml", CURVES, IMAGES)
CHECKPOINT_FILES = r"step_\d{8,}\.(pt|json|corrupt)(\.corrupt)?(\.\d+)?"


class RunFolder:
    """Create or open a run folder and lock it until it is closed or the process ends.

    Args:
        path: the folder.
        resume: whether a folder that holds a run may be resumed.
        overwrite: whether the run in it may be deleted first.

    Raises:
        UsageError: the folder holds a run and neither flag is set, or other files and no run.
        LockedError: another process uses it.
        ResourceError: it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.settings_file = path / "settings.toml"
        self._files: list[IO[str]] = []
        refuse_unfit(path, resume=resume, overwrite=overwrite)
        try:
            disk.make_folder(path)
            self._files.append(lock.acquire(path))
            before = {} if overwrite else status.read(path)
            self.id = str(before.get("run") or (resume and run_of_checkpoints(path)) or uuid.uuid4().hex)
            self.died = before.get("state") == status.RUNNING
            self.killed = self.died and cgroups.killed_since(before.get("oom_kills"))
            if is_started(path) and not (resume or overwrite):  # another process trained here since `refuse_unfit`
                raise not_empty(path)
            if overwrite:
                _delete_run(path)
            self._finished = before if before.get("state") == status.FINISHED else None
            self.write_status(status.RUNNING)  # first: it marks the folder as a run, even if we are killed next
            disk.make_folder(self.checkpoints)
            for folder in (path, self.checkpoints):
                disk.remove_temporary_files(folder)
            for name in (METRICS, "bad_images.jsonl"):
                disk.drop_partial_line(path / name)
            for name in (METRICS, "train.log"):
                self._files.append(disk.open_append(path / name))
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise write_error(f"in {path}", error, "Choose another --out.") from error
        _, self._metrics, self._log = self._files

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
        return json_of(self.path / "plan.json")

    def has_saved(self) -> bool:
        """Return whether there is a checkpoint, whole or damaged, or `metrics.jsonl` records one that was saved."""
        if any(map(_is_checkpoint, self.checkpoints.iterdir())):
            return True
        return any(event["event"] == "saved" for event in records.events(self.path))

    def write_environment(self, versions: dict[str, str]) -> None:
        """Write `env.json`: versions of packages and the machine."""
        versions = {"sslcli": __version__, "python": sys.version.split()[0], **versions}
        machine = {"processors": os.cpu_count(), "memory": psutil.virtual_memory().total}
        facts = {"schema": SCHEMA, **versions, "system": platform.platform(), **machine}
        disk.write_json(self.path / "env.json", facts)

    def write_status(self, state: str, exit_code: int | None = None, reason: str = "", quality: Any = None) -> None:
        """Write `status.json`; `state` is one of `status.STATES`.

        A run that had finished stays so until `begin`, whatever interrupts its resume, and keeps what was measured.
        """
        if self._finished is not None:
            if state != status.FINISHED:
                return
            quality = quality or self._finished.get("quality")
        status.write(self.path, self.id, state, exit_code, reason, quality)

    def begin(self) -> None:
        """Write that the run takes steps from here on, if it had finished."""
        if self._finished is not None:
            self._finished = None
            self.write_status(status.RUNNING)

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
                with disk.open_append(self.path / "bad_images.jsonl") as file:
                    file.write(line + "\n")
        except OSError as error:
            raise write_error(f"in {self.path}", error, "Check the disk, and the permissions on it.") from error

    def log(self, text: str) -> None:
        """Append the text to `train.log` with the date, control characters escaped; a failed write is ignored."""
        lines = "\n".join(shown(line, limit=5000) for line in text.splitlines())
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {lines}\n")
            self._log.flush()

    def discard(self) -> None:
        """Delete what this run wrote, where no training has started in it, and the folder if nothing else is in it."""
        with contextlib.suppress(OSError):
            _delete_run(self.path)
            for name in ("status.json", lock.NAME):
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()

    def close(self) -> None:
        """Close the files and release the lock."""
        for file in reversed(self._files):
            with contextlib.suppress(OSError):  # a full disk, which `record` has reported
                file.close()


def _delete_run(path: Path) -> None:
    """Delete the files of a run, and nothing else in the folder."""
    # status.json stays: wherever this is interrupted, the rest is still marked as a run
    for name in (*FILES, *(file.name for file in path.glob(KEPT))):
        (path / name).unlink(missing_ok=True)
    trackers.delete(path)
    for folder in (path / name for name in ("checkpoints", "eval", "export")):
        if not folder.is_dir():
            continue
        disk.remove_temporary_files(folder)
        is_ours = _is_checkpoint if folder.name == "checkpoints" else _is_result
        for file in sorted(filter(is_ours, folder.iterdir())):  # the newest checkpoint last
            if not is_folder(file):
                file.unlink()
        disk.sync_folder(folder)  # no checkpoint may come back, and be taken for one of the new run
        with contextlib.suppress(OSError):  # a file of the user's is left in it
            folder.rmdir()


def _is_checkpoint(file: Path) -> bool:
    return bool(re.fullmatch(CHECKPOINT_FILES, file.name))


def _is_result(file: Path) -> bool:
    """Return whether an evaluation or an export wrote the file."""
    return file.suffix == ".json" and json_of(file).keys() >= {"event", "result", "checkpoint"}
