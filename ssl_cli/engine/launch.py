"""`--devices N`: the same command in N processes on this machine, by torch's elastic launcher."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ssl_cli.engine.run_folder import settle_status
from ssl_cli.engine.signals import exit_code
from ssl_cli.errors import DONE, STOPPED, PeerError, UsageError

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
"""What the launcher hands on to its processes."""
GRACE = 900
"""Seconds that processes have to end their step and save it, once they are asked to stop."""


def launch(words: Sequence[str], processes: int, *, device: str, out: Path) -> int:
    """Run `sslcli WORDS` in so many processes, each with a card of its own or its share of the processors.

    Returns:
        The exit code of the run.

    Raises:
        UsageError: there are fewer cards, or one was named.
        PeerError: a process was killed; `status.json` in `out` says so too.
    """
    if ":" in device:
        raise UsageError(f"--device {device} is one card, and --devices {processes} takes more.", "Pass --device cuda.")
    cards = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if cards and processes > cards:
        raise UsageError(f"There are {cards} cards here, not {processes}.", f"Pass --devices {cards}, or --device cpu.")
    if not cards and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // processes, 1))
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", SIGNALS)
    logging.disable(logging.CRITICAL)  # every end is told in our own words
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="sslcli", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2, shutdown_timeout=GRACE,
    )  # fmt: skip
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS.split(",")}
    try:
        elastic_launch(config, sys.executable)("-m", "ssl_cli", *words)
    except ChildFailedError as error:
        return _ended(error.get_first_failure(), processes, out)
    except SignalException as error:
        return exit_code(error.sigval)
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
    return DONE


def _ended(failed: tuple[int, ProcessFailure], processes: int, out: Path) -> int:
    """The exit code that a process left, which has told why; or, of one that was killed, what there is to say."""
    rank, failure = failed
    code: int = failure.exitcode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    message = f"Process {rank} of {processes} (from 0) {how}."
    known = not settle_status(out, "failed", code if code >= 0 else STOPPED, message)
    if known and code >= 0:
        return code  # the first process has told why
    raise PeerError(message, code=code if code >= 0 else STOPPED)
