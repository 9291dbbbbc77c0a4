"""Waiting threads spin briefly on a busy machine; a user's own choice is respected."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_cli import spinning
from ssl_cli.spinning import CpuTime, cores_in_use, limit_spinning, share_left


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables is set; they and what was seen are restored after the test."""
    for name in (*spinning.GIVEN, *spinning.SHORT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(spinning, "_seen", None)


def test_threads_spin_briefly_on_a_busy_machine() -> None:
    limit_spinning(1.0)
    assert {name: os.environ[name] for name in spinning.SHORT} == spinning.SHORT
    assert "other programs used 1.0 of" in spinning.described()
    assert "spin briefly" in spinning.described()


def test_nothing_is_set_where_the_machine_is_idle() -> None:
    limit_spinning(0.1)
    assert not {*spinning.SHORT} & {*os.environ}
    assert "0.1 of" in spinning.described()


@pytest.mark.parametrize("name", spinning.GIVEN)
def test_a_user_s_own_choice_is_respected(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    before = dict(os.environ)
    limit_spinning(2.0)
    assert dict(os.environ) == before
    assert spinning.described() == f"{name}=7, as set"


@pytest.mark.parametrize(
    ("busy", "here", "cores"),
    [(1.0, 1.0, 0.0), (2.0, 1.0, 1.0), (2.0, 0.0, 2.0), (0.0, 0.5, 0.0)],
    ids=["only this process", "one of another", "two of others", "ticks that round"],
)
def test_cores_in_use_are_those_of_other_processes(
    monkeypatch: pytest.MonkeyPatch, busy: float, here: float, cores: float
) -> None:
    monkeypatch.setattr(spinning, "processors", lambda: 2)
    before = CpuTime(10.0, 5.0, 20.0)  # two cores for a second
    assert cores_in_use(before, CpuTime(10.0 + busy, 5.0 + here, 22.0)) == cores
    assert cores_in_use(before, before) == cores_in_use(None, before) == cores_in_use(before, None) == 0


@pytest.mark.parametrize(
    ("busy", "here", "share"),
    [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (2.0, 0.0, 0.0), (0.0, 0.5, 1.0)],
    ids=["only this process", "one of two cores", "none", "ticks that round"],
)
def test_what_other_processes_leave(monkeypatch: pytest.MonkeyPatch, busy: float, here: float, share: float) -> None:
    monkeypatch.setattr(spinning, "processors", lambda: 2)
    before = CpuTime(10.0, 5.0, 20.0)
    assert share_left(before, CpuTime(10.0 + busy, 5.0 + here, 22.0)) == share
    assert share_left(before, before) is share_left(None, before) is share_left(before, None) is None


@pytest.mark.skipif(not spinning.STAT.exists(), reason="there is no /proc/stat")
def test_the_time_of_processes_that_this_one_started_is_its_own() -> None:
    before = spinning.cpu_time()
    spends = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", spends], check=True)
    after = spinning.cpu_time()
    assert before is not None
    assert after is not None
    assert after.here - before.here >= 0.1


def test_only_this_process_s_cores_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 100 0 50 700 50 0 0 100 0 0\ncpu1 900 0 0 100 0 0 0 0 0 0\nintr 5\n"
    (tmp_path / "stat").write_text(stat)
    monkeypatch.setattr(spinning, "STAT", tmp_path / "stat")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    monkeypatch.setattr(os, "sysconf", lambda _name: 100)
    read = spinning.cpu_time()
    assert read is not None
    assert (read.busy, read.wall) == (2.5, 10.0)


def test_without_such_a_file_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spinning, "STAT", tmp_path / "none")
    assert spinning.cpu_time() is None
