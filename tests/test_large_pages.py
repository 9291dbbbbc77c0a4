"""A command begins again with large pages, once, where there are some and nobody has asked for something else."""

import subprocess
import sys
from pathlib import Path

import pytest

from ssl_cli import large_pages


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The command lines with which this process would have begun again."""
    found: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, words: found.append([path, *words]))
    monkeypatch.setattr("os.confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(large_pages, "SWITCH", tmp_path / "enabled")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ssl_cli", "bench", "step"])
    for name in (large_pages.VARIABLE, large_pages.ASKED):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    large_pages.SWITCH.write_text("always [madvise] never\n")
    return found


def test_a_command_begins_again_once_with_the_same_words(begun: list[list[str]]) -> None:
    large_pages.begin_with_them()
    large_pages.begin_with_them()
    assert begun == [[sys.executable, "python", "-m", "ssl_cli", "bench", "step"]]


def test_where_the_variable_is_lost_on_the_way_it_does_so_once(
    begun: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    large_pages.begin_with_them()
    monkeypatch.delenv(large_pages.VARIABLE)
    large_pages.begin_with_them()
    assert len(begun) == 1


@pytest.mark.parametrize("state", ["[always] madvise never\n", "always madvise [never]\n"])
def test_not_where_all_have_them_or_nobody(begun: list[list[str]], state: str) -> None:
    large_pages.SWITCH.write_text(state)
    large_pages.begin_with_them()
    assert not begun


@pytest.mark.parametrize("library", ["glibc 2.34", "musl 1.2", "", None])
def test_not_with_a_library_that_has_none(
    begun: list[list[str]], library: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.confstr", lambda name: library)
    large_pages.begin_with_them()
    assert not begun


def test_not_on_another_system(begun: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.confstr")
    large_pages.SWITCH.unlink()
    large_pages.begin_with_them()
    assert not begun


def test_what_a_user_has_set_stays(begun: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(large_pages.VARIABLE, "glibc.malloc.hugetlb=0")
    large_pages.begin_with_them()
    assert not begun


@pytest.mark.skipif(not large_pages.offered(), reason="this system has none to ask for")
def test_the_command_has_them() -> None:
    words = "import os; from ssl_cli.large_pages import *; begin_with_them(); print(os.environ[VARIABLE], os.getpid())"
    with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True, env={}) as process:
        told, _ = process.communicate(timeout=60)
    assert told.split() == [large_pages.VALUE, str(process.pid)]  # the same process, begun again
