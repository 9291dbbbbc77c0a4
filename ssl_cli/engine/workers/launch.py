"""`--devices N`: the same command as N ranks on this machine, by torch's elastic launcher."""

import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ssl_cli import disk, status
from ssl_cli.error_file import rank_error
from ssl_cli.errors import DONE, INTERRUPTED, STOPPED, Interrupted, RankError, UsageError
from ssl_cli.signals import exit_code, stop_reason
from ssl_cli.world import LAUNCHER, default_threads

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
"""Signals that the launcher forwards to the ranks."""
SHUTDOWN_SECONDS = 900
"""How long the ranks have to end their step and save it after a signal, where torch lets it be set (else 30 s)."""


class _Forward:
    """Handle signals: the first one ends the launcher's loop, and torch forwards it; then forward Ctrl-C only."""

    def __init__(self) -> None:
        self.received = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received = True
            raise SignalException(stop_reason(number), signal.Signals(number))
        if number == signal.SIGINT:
            for process in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)


def require_devices(device: str, ranks: int) -> None:
    """Require a device for each rank.

    Raises:
        UsageError: there are fewer GPUs, or none, or one was named.
    """
    if ":" in device:
        raise UsageError(f"--device {device} is one GPU, and --devices {ranks} takes more.", "Pass --device cuda.")
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if device == "cuda" and not gpus:
        raise UsageError("There is no device 'cuda' here.", "Use --device cpu, or auto.")
    if gpus and ranks > gpus:
        raise UsageError(f"There are {gpus} GPUs here, not {ranks}.", f"Pass --devices {gpus}, or --device cpu.")


def launch(words: Sequence[str], ranks: int, *, device: str, out: Path) -> int:
    """Run `sslcli WORDS` as several ranks, each with a GPU of its own or its part of the cores.

    Returns:
        The exit code of the run.

    Raises:
        Interrupted: a signal came before the ranks could handle it.
        UsageError: there are fewer GPUs, or one was named.
        RankError: a rank above 0 failed, or one was killed; it is in the `status.json` of `out` too.
    """
    require_devices(device, ranks)
    os.environ.setdefault("OMP_NUM_THREADS", str(default_threads(ranks)))
    logging.disable(logging.CRITICAL)  # errors are reported below
    forward, before = _Forward(), {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            if before[number] is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, forward)
        elastic_launch(_config(ranks), sys.executable)("-m", "ssl_cli", *words)
    except ChildFailedError as error:
        return _report(error.failures, ranks, out)
    except SignalException as error:
        code = exit_code(error.sigval)
        if not status.read(out) or status.settle(out, "stopped", code, stop_reason(error.sigval)):
            raise Interrupted(stop_reason(error.sigval), code) from None
        return code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return DONE


def _config(ranks: int) -> LaunchConfig:
    """Configure one node without restarts; `shutdown_timeout` is newer than torch 2.11."""
    # torch's own signal handlers would replace ours
    newer: dict[str, Any] = {"shutdown_timeout": SHUTDOWN_SECONDS, "signals_to_handle": ""}
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=LAUNCHER, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2,
        **{name: value for name, value in newer.items() if name in known},
    )  # fmt: skip


def _report(failures: Mapping[int, ProcessFailure], ranks: int, out: Path) -> int:
    """Report the failure that ended the run, and correct `status.json` where rank 0 could not write it.

    Returns:
        The exit code of rank 0, where it was stopped by a signal or has reported its own error.

    Raises:
        RankError: another rank failed, or one was killed.
    """
    rank, failure = min(failures.items(), key=_order)
    error = rank_error(failure.error_file_data)
    if error is None:
        code = failure.exitcode
        if code in (STOPPED, INTERRUPTED) and status.state(out) in {status.STOPPED, status.FINISHED}:
            return code
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        error = RankError(f"Rank {rank} of {ranks} (from 0) {how}.", code=code if code >= 0 else STOPPED)
    elif rank == 0:
        return error.code
    if status.settle(out, "failed", error.code, error.message) and error.out_of_memory:
        _note_out_of_memory(out / "plan.json", error.message)
    raise error


def _order(item: tuple[int, ProcessFailure]) -> tuple[bool, bool, int]:
    """Sort failures: first those with an error file, then killed ranks, then those that lost the connection."""
    failure = item[1]
    return rank_error(failure.error_file_data) is None, failure.exitcode >= 0, failure.timestamp


def _note_out_of_memory(plan: Path, message: str) -> None:
    """Note in `plan.json` that the next `--resume` has to take smaller micro-batches."""
    with contextlib.suppress(OSError, ValueError):
        disk.write_json(plan, {**disk.read_json(plan), "out_of_memory": message})
