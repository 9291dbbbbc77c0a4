"""Many processes start on one run folder at once: one of them gets it, and it is free as soon as that one is killed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import LockedError
from tests.faults import runs

RACE = """
import sys, time
from pathlib import Path
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import SslcliError
out, start, words = Path(sys.argv[1]), Path(sys.argv[2]), {word: True for word in sys.argv[3:]}
print("ready", flush=True)
while not start.exists():
    time.sleep(0.001)
try:
    folder = RunFolder(out, **words)
except SslcliError as error:
    print(error.message, flush=True)
    sys.exit(error.code)
print("won", flush=True)
sys.stdin.read()
"""
"""Opens the folder when the file `start` is there, and holds it until its standard input is closed."""


@pytest.mark.parametrize(
    ("count", "flag"),
    [(6, ""), *(pytest.param(*case, marks=pytest.mark.slow) for case in [
        (6, "resume"), (6, "overwrite"), (50, ""), (50, "resume"), (50, "overwrite")])],
)  # fmt: skip
def test_one_of_many_gets_the_folder(count: int, flag: str, tmp_path: Path) -> None:
    out, start = tmp_path / "run", tmp_path / "start"
    if flag:
        RunFolder(out).close()
    words = [sys.executable, "-c", RACE, str(out), str(start), *filter(None, [flag])]
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment) for _ in range(count)]
    try:
        assert all(racer.stdout is not None and racer.stdout.readline() == "ready\n" for racer in racers)
        start.touch()
        answers = [racer.stdout.readline() for racer in racers if racer.stdout]
        winner = racers[answers.index("won\n")]
        assert answers.count("won\n") == 1
        for racer, answer in zip(racers, answers, strict=True):
            if racer is not winner:
                assert racer.wait(60) == LockedError.code
                assert re.search(rf"in use by process {winner.pid} on \S+", answer), answer
        winner.kill()
        winner.wait()
        RunFolder(out, resume=True).close()
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_two_commands_on_one_run(flag: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    RunFolder(out).close()
    words = [sys.executable, "-m", "ssl_cli", "pretrain", "--out", str(out), flag, *runs.COMMON, "--epochs", "90"]
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
