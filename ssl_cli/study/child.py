"""Run `sslcli` in a process of its own: signals to this one stop it, and it does not outlive this one."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ssl_cli.config.refusal import ENV
from ssl_cli.config.sources import SWITCHES
from ssl_cli.signals import StopRequest

POLL = 0.2
_SET_PARENT_DEATH_SIGNAL = 1
"""Of Linux's prctl."""


def run(words: Sequence[str], folder: Path, request: StopRequest) -> int:
    """Run `sslcli WORDS` in a folder, without the variables that are settings; return its exit code, or -signal.

    Its display is on this process's stderr; its result is discarded, since it is also in its run folder.

    Note:
        A process of its own makes the peak of its memory its own, and a run that the kernel kills for its memory ends
        alone. Where this process is killed, Linux sends SIGTERM to the other one, which is saved and stopped.
    """
    command = [sys.executable, "-m", "ssl_cli", *words]
    alone = not _reached_by_terminal()
    with request.deferred():
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, preexec_fn=_end_with_parent()
        )
        forwarded = None
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
            if request.signal is not None and request.signal is not forwarded:
                forwarded = request.signal
                if alone or forwarded is not signal.SIGINT:
                    process.send_signal(forwarded)
    return process.returncode


def environment() -> dict[str, str]:
    """Return the variables of a new process: those of this one but settings, and where this package is found."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(ENV) or name in SWITCHES}
    package = str(Path(__file__).parents[2])
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, (package, env.get("PYTHONPATH"))))}


def _reached_by_terminal() -> bool:
    """Return whether a Ctrl-C in the terminal reaches all processes that this one starts, without it."""
    with contextlib.suppress(OSError):
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False


def _end_with_parent() -> Callable[[], None] | None:
    """Return what a new process calls to receive SIGTERM when this one ends; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the process is forked
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
