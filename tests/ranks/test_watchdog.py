"""A rank that is blocked in a call which handles no signal ends where another rank or the launcher is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks.processes import environment, free_port
from tests.selection import slow

SCRIPT = """
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

import torch

from ssl_cli import distributed
from ssl_cli import watchdog

watchdog.GRACE_SECONDS = 0.1
action, rank = sys.argv[1:]
with distributed.process_group(torch.device("cpu")):
    watch = watchdog.Watchdog()
    distributed.all_reduce_max(0)
    if action == "end":
        watch.close()
    elif rank == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "poll":
        assert distributed.rank_lost.wait(60)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        ctypes.CDLL(None).sleep(600)
"""


def end_codes(tmp_path: Path, action: str, size: int) -> list[int]:
    """Exit codes of ranks that run `SCRIPT`."""
    script, port = tmp_path / "script.py", free_port()
    script.write_text(SCRIPT)
    ranks = [
        subprocess.Popen([sys.executable, str(script), action, str(rank)], env=environment(rank, size, port))
        for rank in range(size)
    ]
    try:
        return [rank.wait(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


@pytest.mark.parametrize("size", [2, *slow(3)])
def test_ranks_blocked_in_a_device_wait_end_where_one_is_killed(tmp_path: Path, size: int) -> None:
    assert end_codes(tmp_path, "block", size) == [-9, 75, 75][:size]


@pytest.mark.slow
def test_ranks_that_end_as_they_should_are_not_lost(tmp_path: Path) -> None:
    assert end_codes(tmp_path, "end", 3) == [0, 0, 0]
