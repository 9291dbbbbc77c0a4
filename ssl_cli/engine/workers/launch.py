"""`--devices N`: the same command in N processes on this machine, by torch's elastic launcher."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil
import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ssl_cli.engine.run.folder import settle_status, status
from ssl_cli.engine.run.signals import exit_code, stop_reason
from ssl_cli.errors import DONE, INTERRUPTED, STOPPED, Interrupted, RankError, UsageError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
"""What the launcher hands on to its processes."""
GRACE = 900
"""Seconds that processes have to end their step and save it, once they are asked to stop."""


class _HandOn:
    """The first signal ends the watch, and torch hands it on; after it Ctrl-C alone goes to the processes, at once."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.came:
            self.came = True
            raise SignalException(stop_reason(number), signal.Signals(number))
        if number == signal.SIGINT:
            for process in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)


def launch(words: Sequence[str], processes: int, *, device: str, out: Path) -> int:
    """Run `sslcli WORDS` in so many processes, each with a card of its own or its share of the processors.

    Returns:
        The exit code of the run.

    Raises:
        Interrupted: it was asked to stop before the processes could say so.
        UsageError: there are fewer cards, or one was named.
        RankError: a process was killed; `status.json` in `out` says so too.
    """
    if ":" in device:
        raise UsageError(f"--device {device} is one card, and --devices {processes} takes more.", "Pass --device cuda.")
    cards = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if cards and processes > cards:
        raise UsageError(f"There are {cards} cards here, not {processes}.", f"Pass --devices {cards}, or --device cpu.")
    if not cards and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // processes, 1))
    logging.disable(logging.CRITICAL)  # every end is told in our own words
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="sslcli", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2, shutdown_timeout=GRACE,
        signals_to_handle="",  # they are ours: at a second one torch would send SIGTERM, and at a third leave
    )  # fmt: skip
    hand_on, before = _HandOn(), {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            if before[number] is not signal.SIG_IGN:  # nohup stays what it is
                signal.signal(number, hand_on)
        elastic_launch(config, sys.executable)("-m", "ssl_cli", *words)
    except ChildFailedError as error:
        return _ended(error.get_first_failure(), processes, out)
    except SignalException as error:
        code = exit_code(error.sigval)
        if status(out) is None or settle_status(out, "stopped", code, stop_reason(error.sigval)):
            raise Interrupted(stop_reason(error.sigval), code) from None
        return code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return DONE


def _ended(failed: tuple[int, ProcessFailure], processes: int, out: Path) -> int:
    """The exit code that a process left, which has told why; or, of one that was killed, what there is to say."""
    rank, failure = failed
    code: int = failure.exitcode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    message = f"Process {rank} of {processes} (from 0) {how}."
    if code in (STOPPED, INTERRUPTED) and status(out) == "stopped":
        return code
    known = not settle_status(out, "failed", code if code >= 0 else STOPPED, message)
    if known and code >= 0:
        return code  # the first process has told why
    raise RankError(message, code=code if code >= 0 else STOPPED)
