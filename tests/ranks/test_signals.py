"""A signal while the ranks start, or join the process group, stops the run; so do two at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.test_signals import Moment, has_event, is_there, wait_for
from tests.ranks.processes import free_port
from tests.ranks.test_runs import SMALL, ended, start, status

pytestmark = pytest.mark.slow
RANK_0_ALONE = """
import os
import runpy
import time

time.sleep(600 * int(os.environ["RANK"]))
runpy.run_module("ssl_cli", run_name="__main__")
"""
"""The command, of which rank 0 alone joins the process group."""


def assert_stopped(out: Path, number: signal.Signals, code: int) -> None:
    assert code == (130 if number == signal.SIGINT else 75)
    found = status(out)
    assert (found["state"], found["exit_code"], found["reason"]) == ("stopped", code, f"{number.name} was received")


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (is_there, signal.SIGTERM),
        (has_event("started"), signal.SIGUSR1),
        (has_event("planned"), signal.SIGINT),
    ],
    ids=["folder", "first step", "plan"],
)
def test_ranks_that_start_are_stopped(tmp_path: Path, moment: Moment, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = start(out, "--epochs", "300")
    wait_for(moment, process, out)
    process.send_signal(number)
    code, stderr = ended(process)
    assert_stopped(out, number, code)
    assert f"{number.name} was received" in stderr
    assert "Traceback" not in stderr


def test_a_launcher_is_stopped_as_its_ranks_start(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, "--epochs", "300")
    until = time.monotonic() + 300
    while not psutil.Process(process.pid).children():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, stderr = ended(process)
    assert code == 75
    assert "Traceback" not in stderr
    assert not (out / "status.json").exists() or status(out)["state"] == "stopped"


def test_two_interrupts_end_all_ranks(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, "--epochs", "300")
    wait_for(has_event("stepped"), process, out)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)  # two at once would be one
    process.send_signal(signal.SIGINT)
    code, stderr = ended(process)
    assert_stopped(out, signal.SIGINT, code)
    assert "Traceback" not in stderr


def test_under_torchrun_a_signal_is_handled_while_ranks_join(tmp_path: Path) -> None:
    script, out = tmp_path / "alone.py", tmp_path / "run"
    script.write_text(RANK_0_ALONE)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    process = subprocess.Popen(
        [*words, str(script), "pretrain", "--out", str(out), *SMALL],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wait_for(is_there, process, out)
    process.send_signal(signal.SIGTERM)
    ended(process)
    assert_stopped(out, signal.SIGTERM, 75)
