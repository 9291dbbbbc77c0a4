"""`status.json` of a run folder: the state of the run, and the process that wrote it."""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_cli import cgroups, disk, lock

SCHEMA = 1
RUNNING, FINISHED, STOPPED, FAILED = STATES = ("running", "finished", "stopped", "failed")
DIED = "died"
_FIELDS = {"schema", "state", "exit_code", "reason", "pid", "host", "time"}


def read(folder: Path) -> dict[str, Any]:
    """Read the `status.json` that a run wrote; empty if there is none, or one of another program."""
    try:
        found = disk.read_json(folder / "status.json")
    except (OSError, ValueError):
        return {}
    ours = found.keys() >= _FIELDS and found["schema"] == SCHEMA and found["state"] in STATES
    return found if ours else {}


def state(folder: Path) -> str | None:
    """Return the state of the run, one of `STATES`; None if there is no run.

    A state `running` is `DIED` where no process holds the lock: it was killed, or the machine stopped.
    """
    found = read(folder).get("state")
    return DIED if found == RUNNING and not lock.is_held(folder) else found


def write(
    folder: Path, run: str, state: str, exit_code: int | None, reason: str, quality: Mapping[str, Any] | None = None
) -> None:
    """Write the state of the run with this id; while it runs, also how many processes were killed out of memory so far.

    `quality` is what was measured when training ended.

    Raises:
        ResourceError: the disk is full, or cannot be written.
    """
    facts = {"schema": SCHEMA, "run": run, "state": state, "exit_code": exit_code, "reason": reason}
    process = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    killed = {"oom_kills": cgroups.oom_kills()} if state == RUNNING else {}
    measured = {} if quality is None else {"quality": quality}
    disk.write_json(folder / "status.json", {**facts, **process, **killed, **measured})


def settle(folder: Path, state: str, exit_code: int, reason: str) -> bool:
    """Write the state of a run whose process ended without doing so; return whether it was needed.

    A rank that was stopped because another one failed has written `stopped`; a `failed` replaces it.
    """
    before = read(folder)
    if before.get("state") not in ({RUNNING, STOPPED, FAILED} if state == FAILED else {RUNNING}):
        return False
    write(folder, str(before.get("run") or uuid.uuid4().hex), state, exit_code, reason)
    return True
