"""Kill -9 from outside at random moments: the resumed run ends with the same bits."""

import random
import signal
import time
from pathlib import Path

import pytest

from ssl_cli import lock
from ssl_cli.errors import INTERRUPTED, STOPPED
from tests.faults import runs
from tests.faults.conftest import References
from tests.processes import steps_logged


def is_writing(out: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((out / "checkpoints").glob(".*.tmp.*"))


def stop_within_a_write(process: runs.Process, out: Path) -> bool:
    """Stop the process while it writes a checkpoint; False where it ended first."""
    while process.poll() is None:
        if is_writing(out):
            runs.signal_group(process, signal.SIGSTOP)
            if is_writing(out):
                return True
            runs.signal_group(process, signal.SIGCONT)  # it had just ended
        time.sleep(0.0005)
    return False


def run_with_kills(method: str, out: Path, kills: int, seed: int) -> int:
    """Kill `kills` times, a third within the write of a checkpoint and a fifth of the others while it starts.

    Each life has another number of decode threads, and the last one ends by itself. Returns how many kills struck.
    """
    chance = random.Random(seed)
    struck = 0
    for number in range(kills):
        process = runs.Life(method, out, "--set", f"data.threads={1 + number % 3}")
        if number % 3 == 2:
            stop_within_a_write(process, out)
        elif number % 5 == 4:
            time.sleep(chance.uniform(0, 1))
        else:
            # few enough steps a life that the run outlasts all of them; some lives end before their first checkpoint
            runs.wait_for_steps(process, out, chance.randint(1, max(2, 2 * runs.STEPS // kills)))
            time.sleep(chance.uniform(0, 0.03))
        struck += process.poll() is None
        runs.kill(process)
    code, stderr = runs.finish(runs.Life(method, out))
    assert code == 0, stderr
    return struck


def wait_until_free(out: Path, timeout: float = 120) -> None:
    """Wait until no process of the run is left: its ranks end after their launcher."""
    deadline = time.monotonic() + timeout
    while lock.is_held(out):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("method", list(runs.METHODS))
def test_three_kills(method: str, references: References, tmp_path: Path) -> None:
    assert run_with_kills(method, tmp_path / "run", kills=3, seed=1) >= 2
    runs.assert_ended_alike(tmp_path / "run", references(method))


def test_two_kills(references: References, tmp_path: Path) -> None:
    method = "moco-v2, cached"
    assert run_with_kills(method, tmp_path / "run", kills=2, seed=1) == 2
    runs.assert_ended_alike(tmp_path / "run", references(method))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco-v2, cached"])
def test_five_kills(method: str, references: References, tmp_path: Path) -> None:
    assert run_with_kills(method, tmp_path / "run", kills=5, seed=1) >= 4
    runs.assert_ended_alike(tmp_path / "run", references(method))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco-v2", "instdisc"])
def test_twelve_kills(method: str, references: References, tmp_path: Path) -> None:
    assert run_with_kills(method, tmp_path / "run", kills=12, seed=2) >= 8
    runs.assert_ended_alike(tmp_path / "run", references(method))


@pytest.mark.slow
def test_two_ranks_killed_together(tmp_path: Path) -> None:
    """The ranks are told apart from the launcher, whose death ends them."""
    reference, out, devices = tmp_path / "reference", tmp_path / "run", ("--devices", "2")
    assert runs.finish(runs.start("simclr", reference, *devices))[0] == 0
    for count in (2, 9, 1, 7):
        process = runs.start("simclr", out, *devices)
        runs.wait_for_steps(process, out, count)
        assert process.poll() is None
        runs.kill(process)
        wait_until_free(out)
    assert runs.finish(runs.start("simclr", out, *devices))[0] == 0
    runs.assert_ended_alike(out, reference)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, STOPPED), (signal.SIGINT, INTERRUPTED)])
def test_a_signal_loses_no_step(number: signal.Signals, code: int, references: References, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out)
    runs.wait_for_steps(process, out, 7)
    process.send_signal(number)
    assert runs.finish(process)[0] == code
    logged = max(runs.metrics(out))
    assert (out / "checkpoints" / f"step_{logged:08d}.pt").exists()
    assert runs.finish(runs.start("simclr", out))[0] == 0
    runs.assert_ended_alike(out, references("simclr"))
    assert steps_logged(out) == runs.STEPS  # nothing was done twice


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_some_steps_and_nothing_else(references: References, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out)
    runs.wait_for_steps(process, out, 12)
    runs.kill(process)
    newest = max((out / "checkpoints").glob("*.pt"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes(data)
    code, stderr = runs.finish(runs.start("simclr", out))
    assert code == 0
    assert "damaged" in stderr
    runs.assert_ended_alike(out, references("simclr"))


@pytest.mark.slow
def test_all_checkpoints_damaged_is_no_silent_restart(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out)
    runs.wait_for_steps(process, out, 12)
    runs.kill(process)
    for path in (out / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    code, stderr = runs.finish(runs.start("simclr", out))
    assert code == 4
    assert "Traceback" not in stderr
