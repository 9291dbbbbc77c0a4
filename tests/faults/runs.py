"""Runs of the real command in processes of their own, and how to tell that two ended alike."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli import checkpoint
from tests import processes

STEPS = 24
# Small enough that starting up dominates; BatchNorm groups, cached steps and a wrapping queue are all in it.
COMMON = [
    "--batch", "32", "--epochs", "3", "--image-size", "16", "--width", "0.0625", "--precision", "fp32", "--seed", "3",
    "--set", "hardware.memory_format=channels_last",
    "--micro-batch", "16", "--set", "model.bn_group=16", "--set", "data.images=256", "--set", "run.log_every=1",
    "--set", "run.checkpoint_every=5", "--set", "run.evaluate=false",
    "--set", "run.monitor=false",
]  # fmt: skip
DIRECT, CACHED = ["--micro-batch", "64", "--set", "hardware.mode=direct"], ["--set", "hardware.mode=cached"]
METHODS: dict[str, list[str]] = {
    "simclr": [],
    "moco-v2": ["--set", "method.queue=100"],
    "simclr, direct": DIRECT,
    "moco-v2, cached": [*CACHED, "--set", "method.queue=100"],
    "instdisc": [],
    "invaspread": CACHED,
    "simclr-v2": ["--set", "method.memory=100"],
    "moco-v1": ["--set", "method.queue=100"],
}
"""Flags by name of a method, with what else is special behind a comma."""


FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["torch._dynamo", "ssl_cli.engine.pretrain", "ssl_cli.commands.pretrain", "ssl_cli.methods"]
)


def start(method: str, out: Path, *extra: str) -> subprocess.Popen[str]:
    """Start, or go on, in a process group of its own, so that it can be killed whole."""
    name = method.partition(",")[0]
    words = ["pretrain", "shapes", "--method", name, "--out", str(out), "--resume", *COMMON, *METHODS[method], *extra]
    return processes.start(*words, start_new_session=True)


class Life:
    """A run in a process forked from one that has imported everything, which starts in a tenth of the time.

    As a `subprocess.Popen`, as far as the tests need.
    """

    def __init__(self, method: str, out: Path, *extra: str) -> None:
        self.stderr = out.with_name("stderr")
        words = ["pretrain", "shapes", "--method", method.partition(",")[0], "--out", str(out), "--resume"]
        words += [*COMMON, *METHODS[method], *extra]
        self._process = FORKED.Process(target=_live, args=(words, self.stderr))
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what stood on both streams, as the second."""
        self._process.join(timeout)
        return "", self.stderr.read_text()


Process = subprocess.Popen[str] | Life


def _live(words: list[str], log: Path) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    torch.set_num_threads(1)
    from ssl_cli.cli import main

    sys.exit(main(words))


def finish(process: Process, timeout: float = 600) -> tuple[int, str]:
    """Exit code and what stood on stderr."""
    _, stderr = process.communicate(timeout=timeout)
    assert process.returncode is not None, "it does not end"
    return process.returncode, stderr


def signal_group(process: Process, number: signal.Signals) -> None:
    """Send a signal to the whole group, unless it has ended."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # a forked one has no group of its own yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def kill(process: Process) -> None:
    """Kill -9 from outside, the whole group, unless it has ended."""
    signal_group(process, signal.SIGKILL)
    process.communicate()


def wait_for_steps(process: Process, out: Path, count: int) -> None:
    """Return once `count` more steps are logged, or the process ended."""
    target = processes.steps_logged(out) + count
    processes.wait(process, lambda: processes.steps_logged(out) >= target)


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of a nested state by their path."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {path: tensor for key, part in items for path, tensor in tensors(part, f"{name}.{key}").items()}


def final_state(out: Path) -> dict[str, Any]:
    """The last checkpoint of a finished run."""
    path = checkpoint.locate(str(out))[0]
    assert path.name == f"step_{STEPS:08d}.pt"
    return checkpoint.load(path)


def metrics(out: Path) -> dict[int, dict[str, Any]]:
    """What was logged for each step, the last word counting; times left out."""
    found = {}
    for line in (out / "metrics.jsonl").read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a killed process may leave half a line
        if record["event"] == "stepped":
            found[record["step"]] = {key: record[key] for key in ("epoch", "loss", "lr", "chance", "numbers")}
    return found


def bits(tensor: Tensor) -> Tensor:
    """Return the bytes, of which a NaN equals itself."""
    return tensor.contiguous().flatten().view(torch.uint8)


def assert_ended_alike(out: Path, reference: Path) -> None:
    """Weights, queue, momentum encoder, optimiser, cursor and metrics are equal to the last bit."""
    ours, theirs = final_state(out), final_state(reference)
    for part in ("step", "epoch", "cursor", "rng", "resolved"):
        assert ours[part] == theirs[part]
    for part in ("objective", "optimiser"):
        a, b = tensors(ours[part]), tensors(theirs[part])
        assert a.keys() == b.keys()
        assert len(a) > 50
        different = [name for name in a if not torch.equal(bits(a[name]), bits(b[name]))]
        assert not different, different
    assert metrics(out) == metrics(reference)
    assert sorted(metrics(out)) == list(range(1, STEPS + 1))
    assert json.loads((out / "status.json").read_text())["state"] == "finished"
