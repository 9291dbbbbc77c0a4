"""Completion in bash, zsh and fish: what the shells ask through the environment, and the answers."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer

from ssl_cli.cli import main
from ssl_cli.commands import complete
from ssl_cli.registry import BACKBONES, BENCHES, FAMILIES, METHODS
from tests.cli.test_surface import HEAVY

SHELLS = ("bash", "zsh", "fish")
PROGRAM = f"""
import sys
from ssl_cli.cli import main
code = main()
heavy = sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r}))
sys.exit(f"imported {{heavy}}" if heavy else code)
"""


def asked(shell: str, line: str) -> dict[str, str]:
    """The environment in which a shell asks how `line` might go on."""
    words = line.split(" ")
    own = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)} if shell == "bash" else {}
    return {
        **os.environ,
        **own,
        "_SSLCLI_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def words_of(shell: str, answer: str) -> set[str]:
    """The words that a shell reads in an answer."""
    if shell == "zsh":
        return set(re.findall(r'^(?:_arguments \'\*: :\(\()?"([^"]+)"', answer, re.MULTILINE))
    return {word.partition("\t")[0] for word in answer.split("\n") if word}


Offer = Callable[[str, str, Path], set[str]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offer:
    """The answer to a shell, in this process."""

    def offer(shell: str, line: str, folder: Path) -> set[str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sslcli"])
        for name, value in asked(shell, line).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        assert main() == 0
        out, err = capsys.readouterr()
        assert err == ""
        return words_of(shell, out)

    return offer


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with three runs, one of them further down, and what is no run."""
    for name, state in {"runs/first": "finished", "runs/second": "stopped", "runs/study/third": "running"}.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "status.json").write_text(json.dumps({"state": state}), encoding="utf-8")
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path


ANSWERS = {
    "sslcli ": {"pretrain", "methods", "inspect-augs", "knn-eval", "linear-eval", "bench", "export"},
    "sslcli kn": {"knn-eval"},
    "sslcli pretrain --ba": {"--backbone", "--batch"},
    "sslcli pretrain --method ": set(METHODS),
    "sslcli pretrain --backbone resnet": set(BACKBONES),
    "sslcli pretrain --method simclr --recipe ": {"own", "shapes", "cifar", "imagenet"},
    "sslcli methods ": set(METHODS),
    "sslcli methods invaspread --recipe ": set(FAMILIES),
    "sslcli bench ": {*BENCHES, "all"},
    "sslcli bench s": {"step"},
    "sslcli knn-eval ": {"runs/first", "runs/second", "runs/study/third"},
    "sslcli knn-eval runs/s": {"runs/second", "runs/study/third"},
    "sslcli export runs/study/": {"runs/study/third"},
}


@pytest.mark.parametrize("line", ANSWERS)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_answered(shell: str, line: str, runs: Path, offered: Offer) -> None:
    answer = offered(shell, line, runs)
    assert answer >= ANSWERS[line]
    assert answer == ANSWERS[line] or not line.endswith("s/s")


@pytest.mark.parametrize("shell", SHELLS)
def test_an_answer_imports_nothing_heavy(shell: str, runs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=asked(shell, "sslcli knn-eval "), cwd=runs, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert words_of(shell, done.stdout) >= ANSWERS["sslcli knn-eval "]


def test_recipes_are_those_of_the_method(runs: Path, monkeypatch: pytest.MonkeyPatch, offered: Offer) -> None:
    monkeypatch.setattr(complete, "FAMILIES", (*FAMILIES, "moon"))  # of which no method has a recipe
    for line in ("pretrain --recipe ", "pretrain --method moco-v2 --recipe "):
        assert offered("bash", f"sslcli {line}", runs) == {"own", "shapes", "cifar", "imagenet"}
    line = "pretrain --method invaspread --recipe "
    assert offered("bash", f"sslcli {line}", runs) == {"own", "shapes", "cifar", "stl10"}
    context = SimpleNamespace(params={"method": "simclr"})
    assert complete.recipes(cast(typer.Context, context), "") == ["own", "shapes", "cifar", "imagenet"]
    assert complete.recipes(cast(typer.Context, context), "ci") == ["cifar"]


def test_of_other_libraries_the_prefix_is_offered() -> None:
    assert complete.backbones("t") == ["torchvision:", "timm:"]
    assert complete.backbones("torchvision:") == ["torchvision:"]


def test_runs_bear_a_mark(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    marked = dict(complete.runs("runs/"))
    assert marked == {"runs/first": "finished", "runs/second": "stopped", "runs/study/third": "running"}
    assert [path for path, _ in complete.runs(str(runs / "runs/f"))] == [str(runs / "runs/first")]
    done = subprocess.run(
        [sys.executable, "-m", "ssl_cli"], env=asked("fish", "sslcli export runs/f"), capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "runs/first\tfinished\n"


def test_names_that_a_shell_might_obey_are_not_offered(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "runs" / "\x1b[31m\nred").mkdir()
    (runs / "runs" / "\x1b[31m\nred" / "status.json").write_text("{}", encoding="utf-8")
    (runs / "runs" / "broken").mkdir()
    (runs / "runs" / "broken" / "status.json").write_text("[", encoding="utf-8")
    monkeypatch.chdir(runs)
    assert dict(complete.runs("runs/")).keys() == {"runs/first", "runs/second", "runs/study/third", "runs/broken"}
    assert dict(complete.runs("runs/b")) == {"runs/broken": "damaged"}


def test_a_disk_full_of_folders_is_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = complete._folders
    for number in range(complete._FOLDERS + 10):
        (tmp_path / f"{number:04d}" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    entered: list[str] = []

    def counted(path: str) -> list[str]:
        entered.append(path)
        return real(path)

    monkeypatch.setattr(complete, "_folders", counted)
    assert complete.runs("") == []
    assert len(entered) == complete._FOLDERS


@pytest.mark.parametrize("shell", ["bash", *(pytest.param(shell, marks=pytest.mark.slow) for shell in ("zsh", "fish"))])
def test_completion_shows_and_installs_itself(shell: str, tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "SHELL": f"/bin/{shell}"}
    env["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # the shell is then named rather than looked for
    run = [sys.executable, "-m", "ssl_cli"]
    shown = subprocess.run(
        [*run, "--show-completion", shell], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"_SSLCLI_COMPLETE=complete_{shell}" in shown.stdout
    done = subprocess.run(
        [*run, "--install-completion", shell], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "sslcli" in path.name]
    assert len(written) == 1
    assert shown.stdout.strip() in written[0].read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes(runs: Path) -> None:
    program = runs / "bin" / "sslcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ssl_cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = """
        eval "$(sslcli --show-completion bash)"
        COMP_WORDS=(sslcli knn-eval runs/f) COMP_CWORD=2
        _sslcli_completion sslcli
        printf '%s\n' "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    env["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=env, cwd=runs, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout, done.stderr) == ("runs/first\n", "")
