"""Docs are programs: the README's commands and the examples run, on small data and with small settings."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_cli.augment.sheet import save_png
from ssl_cli.cli import main

ROOT = Path(__file__).parents[1]
SMALL = {
    "SSLCLI_DATA__IMAGES": "64",
    "SSLCLI_DATA__SIZE": "16",
    "SSLCLI_MODEL__BACKBONE": "resnet18",
    "SSLCLI_MODEL__WIDTH": "0.25",
    "SSLCLI_SCHEDULE__EPOCHS": "1",
    "SSLCLI_RUN__BATCH": "32",
    "SSLCLI_HARDWARE__PRECISION": "fp32",
}


def commands() -> list[str]:
    """The `sslcli` lines of the README's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("sslcli ")]


def test_the_readme_s_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    for label in ("cats", "dogs"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(24):
            save_png(torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8), tmp_path / "photos" / label / f"{i}.png")
    lines = commands()
    assert len(lines) >= 9
    for line in lines:
        if "--resume" in line:  # the run it goes on with has a line of its own, with its own method
            monkeypatch.delenv("SSLCLI_DATA__IMAGES")
        words = shlex.split(re.sub(r"--batch \d+", "--batch 32", line))[1:]
        assert main(words) == 0, line
    assert (tmp_path / "encoder.onnx").stat().st_size > 10_000
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_s_method_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    assert main(["pretrain", "--method", f"{tmp_path}/mine.py:Mine", "--out", str(tmp_path / "run")]) == 0


def test_the_readme_names_each_exit_code() -> None:
    from ssl_cli.errors import EXIT_CODES

    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(table) == {str(code) for code in EXIT_CODES}


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run_and_are_short(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path / "out")],
        env={**os.environ, **SMALL},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "kNN" in done.stdout
