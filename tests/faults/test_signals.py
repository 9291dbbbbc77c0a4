"""A signal at any moment of a run's start ends it as stopped: its status says so, and it can be resumed."""

import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_cli.errors import INTERRUPTED, STOPPED
from tests.faults import runs

pytestmark = pytest.mark.slow
Moment = Callable[[subprocess.Popen[str], Path], bool]


def imports_torch(process: subprocess.Popen[str], out: Path) -> bool:
    return "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text()


def is_there(process: subprocess.Popen[str], out: Path) -> bool:
    return (out / "status.json").is_file()


def has_event(event: str) -> Moment:
    def recorded(process: subprocess.Popen[str], out: Path) -> bool:
        path = out / "metrics.jsonl"
        return path.is_file() and f'"event": "{event}"' in path.read_text()

    return recorded


MOMENTS: dict[str, Moment] = {
    "torch is imported": imports_torch,
    "the run folder is there": is_there,
    "the plan is recorded": has_event("planned"),
    "the first step": has_event("started"),
}

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def wait_for(moment: Moment, process: subprocess.Popen[str], out: Path) -> None:
    until = time.monotonic() + 300
    while not moment(process, out):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)


def status(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "status.json").read_text())
    return found


@pytest.mark.parametrize(("moment", "number"), list(itertools.product(MOMENTS, SIGNALS)))
def test_a_run_that_starts_is_stopped(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out)
    wait_for(MOMENTS[moment], process, out)
    process.send_signal(number)
    code, stderr = runs.finish(process)
    assert code == (INTERRUPTED if number == signal.SIGINT else STOPPED)
    assert f"{number.name} was received" in stderr
    assert "Traceback" not in stderr
    if (out / "status.json").is_file():
        assert {key: status(out)[key] for key in ("state", "exit_code", "reason")} == {
            "state": "stopped", "exit_code": code, "reason": f"{number.name} was received",
        }  # fmt: skip
    else:
        assert moment == "torch is imported"


def test_two_interrupts_end_it_at_once_and_it_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out)
    wait_for(has_event("planned"), process, out)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert runs.finish(process)[0] == INTERRUPTED
    assert status(out)["state"] == "stopped"
    process = runs.start("simclr", out)
    runs.wait_for_steps(process, out, 2)
    process.send_signal(signal.SIGTERM)
    assert runs.finish(process)[0] == STOPPED
    assert status(out)["state"] == "stopped"
