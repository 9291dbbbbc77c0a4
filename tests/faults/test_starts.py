"""Many processes start on one run folder at once: one of them gets it, and it is free as soon as that one is killed."""

import re
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import LockedError, SslcliError
from tests.faults import runs


def race(out: Path, start: Path, words: dict[str, bool], line: Connection) -> None:
    """Open the folder when the file `start` is there; hold it until the other end of `line` is closed."""
    line.send("ready")
    while not start.exists():
        time.sleep(0.001)
    try:
        folder = RunFolder(out, **words)
    except SslcliError as error:
        line.send(error.message)
        sys.exit(error.code)
    line.send("won")
    line.poll(None)
    folder.close()


@pytest.mark.parametrize(
    ("count", "flag"),
    [(6, ""), *(pytest.param(*case, marks=pytest.mark.slow) for case in [
        (6, "resume"), (6, "overwrite"), (50, ""), (50, "resume"), (50, "overwrite")])],
)  # fmt: skip
def test_one_of_many_gets_the_folder(count: int, flag: str, tmp_path: Path) -> None:
    out, start = tmp_path / "run", tmp_path / "start"
    if flag:
        RunFolder(out).close()
    words = {flag: True} if flag else {}
    ends = [runs.FORKED.Pipe() for _ in range(count)]
    racers = [runs.FORKED.Process(target=race, args=(out, start, words, theirs)) for _, theirs in ends]
    try:
        for racer in racers:
            racer.start()
        assert all(ours.recv() == "ready" for ours, _ in ends)
        start.touch()
        answers = [ours.recv() for ours, _ in ends]
        winner = racers[answers.index("won")]
        assert answers.count("won") == 1
        for racer, answer in zip(racers, answers, strict=True):
            if racer is not winner:
                racer.join(60)
                assert racer.exitcode == LockedError.code
                assert re.search(rf"in use by process {winner.pid} on \S+", answer), answer
        winner.kill()
        winner.join()
        RunFolder(out, resume=True).close()
    finally:
        for racer in racers:
            racer.kill()
            racer.join()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_two_commands_on_one_run(flag: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    RunFolder(out).close()
    words = [
        sys.executable,
        "-m",
        "ssl_cli",
        "pretrain",
        "shapes",
        "--out",
        str(out),
        flag,
        *runs.COMMON,
        "--epochs",
        "90",
    ]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        until = time.monotonic() + 300
        while all(process.poll() is None for process in both):
            assert time.monotonic() < until
            time.sleep(0.05)
        loser, holder = sorted(both, key=lambda process: process.poll() is None)
        assert loser.returncode == LockedError.code
        assert f"process {holder.pid} on " in loser.communicate()[1]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    RunFolder(out, resume=True).close()
