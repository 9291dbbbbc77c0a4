"""The command requests huge pages where the kernel gives them on request, and leaves what a user has set."""

import os
import sys
from pathlib import Path

import pytest

from ssl_cli import __main__

NAME = "GLIBC_TUNABLES"


class ExecutedError(Exception):
    """Stands for the process that exec replaces."""


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A kernel's switch that stands at `madvise`; the variable is unset, and an exec raises."""

    def execv(path: str, words: list[str]) -> None:
        assert (path, words) == (sys.executable, sys.orig_argv)
        raise ExecutedError

    monkeypatch.setenv(NAME, "")  # so that it is restored after the test
    monkeypatch.delenv(NAME)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["sslcli", "pretrain", "photos"])
    monkeypatch.setattr(__main__, "HUGE_PAGES", tmp_path / "enabled")
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    return tmp_path / "enabled"


@pytest.mark.usefixtures("switch")
def test_huge_pages_are_requested_once() -> None:
    with pytest.raises(ExecutedError):
        __main__.request_huge_pages()
    assert os.environ[NAME] == "glibc.malloc.hugetlb=1"
    __main__.request_huge_pages()  # the process executed again goes on


@pytest.mark.usefixtures("switch")
def test_a_value_that_a_user_has_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "glibc.malloc.hugetlb=0")
    __main__.request_huge_pages()
    assert os.environ[NAME] == "glibc.malloc.hugetlb=0"


@pytest.mark.parametrize("state", ["[always] madvise never\n", "always madvise [never]\n", None])
def test_nothing_is_requested_where_all_memory_has_them_or_none(switch: Path, state: str | None) -> None:
    switch.unlink() if state is None else switch.write_text(state)
    __main__.request_huge_pages()
    assert NAME not in os.environ


@pytest.mark.usefixtures("switch")
@pytest.mark.parametrize("words", [[], ["methods"], ["export", "pretrain"], ["pretrain", "--help"], ["--version"]])
def test_what_computes_little_is_not_executed_again(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sslcli", *words])
    __main__.request_huge_pages()
    assert NAME not in os.environ
