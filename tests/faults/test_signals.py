"""A signal at any moment of a run's start ends it as stopped: its status says so, and it can be resumed."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_cli.errors import INTERRUPTED, STOPPED
from tests.faults import runs
from tests.processes import wait

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
    "training": has_event("stepped"),
    "a checkpoint is written": lambda process, out: any(out.glob("checkpoints/.*.tmp.*")),
    "the evaluation at the end": lambda process, out: any(out.glob(f"checkpoints/step_{runs.STEPS:08d}.json")),
}

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def wait_for(moment: Moment, process: subprocess.Popen[str], out: Path) -> None:
    assert wait(process, lambda: moment(process, out))


def status(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "status.json").read_text())
    return found


@pytest.mark.parametrize(("moment", "number"), list(itertools.product(MOMENTS, SIGNALS)))
def test_a_run_that_starts_is_stopped(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out, *(["--set", "run.evaluate=true"] if "evaluation" in moment else []))
    wait_for(MOMENTS[moment], process, out)
    process.send_signal(number)
    code, stderr = runs.finish(process, timeout=120)
    if moment == "a checkpoint is written" and code == 0:
        return  # it was the last one
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


COMMANDS = {
    "knn-eval": ["knn-eval", "run"],
    "export": ["export", "run", "-o", "encoder.onnx"],
    "inspect-augs": ["inspect-augs", "-o", "sheet.png"],
}


@pytest.fixture(scope="module")
def finished(references: Callable[[str], Path]) -> Path:
    return references("simclr")


@pytest.mark.parametrize(("command", "number"), list(itertools.product(COMMANDS, SIGNALS)))
def test_another_command_ends_at_once_and_leaves_no_part_of_its_output(
    tmp_path: Path, finished: Path, command: str, number: signal.Signals
) -> None:
    """Ctrl-C is 130; by any other signal it ends as every program does."""
    (tmp_path / "run").symlink_to(finished)
    words = [sys.executable, "-m", "ssl_cli", *COMMANDS[command]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                               env=environment)  # fmt: skip
    wait_for(imports_torch, process, tmp_path)
    process.send_signal(number)
    code, stderr = runs.finish(process, timeout=60)
    assert code == (INTERRUPTED if number == signal.SIGINT else -number)
    assert "Traceback" not in stderr
    assert "bug" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
