"""`sslcli` in a process of its own, and waiting for what it does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
LONGEST = 600.0


class Process(Protocol):
    """A process, of `subprocess` or forked."""

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""


def start(*words: str, more: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start `sslcli WORDS` with one thread and what it writes in pipes.

    Args:
        words: the command line.
        more: variables of its environment.
        options: of `subprocess.Popen`.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "true", "PYTHONPATH": path, **(more or {})}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "ssl_cli", *words], stdout=pipe, stderr=pipe, text=True, env=env, **options
    )


def wait(process: Process, happened: Callable[[], bool]) -> bool:
    """Wait until something has happened, and return True, or until the process has ended without it, and return False.

    It is an error if neither is so within ten minutes.
    """
    until = time.monotonic() + LONGEST
    while not happened():
        if process.poll() is not None:
            return False
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.002)
    return True


def steps_logged(out: Path) -> int:
    """Count the steps in the metrics.jsonl of a run, repeated ones again."""
    path = out / "metrics.jsonl"
    return path.read_text().count('"event": "stepped"') if path.exists() else 0
