"""Docs are programs: the README's commands and the examples run, on small data and with small settings."""

import json
import math
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_cli.augment.sheet import png
from ssl_cli.cli import main
from ssl_cli.config.methods import CustomMethodSettings
from ssl_cli.events import record
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch
from ssl_cli.registry import load
from tests import pictures
from tests.ui.events import training

ROOT = Path(__file__).parents[1]
SMALL = {
    "SSLCLI_DATA__IMAGES": "32",
    "SSLCLI_DATA__SIZE": "16",
    "SSLCLI_DATA__THREADS": "1",
    "SSLCLI_MODEL__BACKBONE": "resnet18",
    "SSLCLI_MODEL__WIDTH": "0.0625",
    "SSLCLI_SCHEDULE__EPOCHS": "1",
    "SSLCLI_RUN__BATCH": "16",
    "SSLCLI_HARDWARE__PRECISION": "fp32",
    "SSLCLI_HARDWARE__MEMORY_FORMAT": "channels_last",
}


LONG = ("sslcli pipeline", "--input uint8-nhwc", "--classifier", "--epochs 20")
"""Parts of the commands that take longest; each has tests of its own."""


def commands() -> list[str]:
    """The `sslcli` lines of the README's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("sslcli ")]


def blocks() -> list[str]:
    """The README's blocks of Python."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("left_out", [LONG, pytest.param((), marks=pytest.mark.slow)])
def test_the_readme_s_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    for label in ("cats", "dogs"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
            (tmp_path / "photos" / label / f"{i}.png").write_bytes(png(image))
    lines = [line for line in commands() if not any(part in line for part in left_out)]
    assert len(lines) >= 25
    for line in lines:
        words = shlex.split(re.sub(r"--batch \d+", "--batch 16", line))[1:]
        with monkeypatch.context() as patch:
            if "--resume" in line:  # as the run that it resumes, which has a line of its own
                patch.delenv("SSLCLI_DATA__IMAGES")
            if "--labels" in line:  # a tenth of the labels are fewer than the batch
                patch.delenv("SSLCLI_RUN__BATCH")
            assert main(words) == 0, line
    assert (tmp_path / "encoder.onnx").stat().st_size > 10_000
    newest = max((tmp_path / "runs" / "photos" / "checkpoints").glob("*.pt")).stem
    unmade = ("class Mine", "encoder-uint8.onnx") if left_out else ("class Mine",)
    uses = [block.replace("step_00000123", newest) for block in blocks() if not any(part in block for part in unmade)]
    found: dict[str, Any] = {}
    for block in uses:
        exec(block, found)
    assert left_out or found["h"].shape[0] == 2
    assert "conv1.weight" in found["w"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_s_method_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    (block,) = (block for block in blocks() if "class Mine" in block)
    (tmp_path / "mine.py").write_text(block)
    assert main(["pretrain", "--method", f"{tmp_path}/mine.py:Mine", "--out", str(tmp_path / "run")]) == 0


def test_the_readme_names_each_exit_code() -> None:
    from ssl_cli.errors import EXIT_CODES

    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(table) == {str(code) for code in EXIT_CODES}


def test_the_example_of_a_method_trains_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = ROOT / "examples" / "your_own_method.py"
    assert len(example.read_text(encoding="utf-8").splitlines()) < 50
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    method, out = f"{example}:BYOL", str(tmp_path / "run")
    assert main(["pretrain", "--method", method, "--set", "method.target_ema=0.5", "--out", out]) == 0
    assert "target_ema = 0.5" in (tmp_path / "run" / "settings.toml").read_text(encoding="utf-8")
    assert main(["knn-eval", out, "--method", method]) == 0


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_example_of_a_method_is_byol(progress: float) -> None:
    kind = load(f"{ROOT / 'examples' / 'your_own_method.py'}:BYOL")
    cfg = CustomMethodSettings.model_validate({"name": "byol", "head_dim": 4, "target_ema": 0.9})
    method = kind(nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), 6, cfg)
    views, batch = list(torch.rand(2, 8, 3, 2, 2)), Batch([], torch.full((8,), -1), torch.arange(8))
    with torch.no_grad():
        q = [unit(method.predictor(method.projector(method.backbone(view)))) for view in views]
        k = [unit(method.target(view)) for view in views]
        expected = ((q[0] - k[1]).square().sum(1) + (q[1] - k[0]).square().sum(1)).mean()
        z = torch.cat([method(view) for view in views])
        torch.testing.assert_close(method.loss(z, method.targets(views, batch), batch), expected)
    online, before = method.backbone[1].weight, method.target[0][1].weight.clone()
    online.data.add_(1)
    method.after_step(z, None, batch, progress)
    tau = 1 - 0.1 * (math.cos(math.pi * progress) + 1) / 2
    torch.testing.assert_close(method.target[0][1].weight, tau * before + (1 - tau) * online)


def test_the_readme_s_pictures_are_there_and_small() -> None:
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    drawn = {f"examples/pictures/{path.name}" for path in pictures.PLACE.iterdir()}
    assert {*names} == drawn
    for name in names:
        assert 1_000 < (ROOT / name).stat().st_size < 200_000, name


def test_the_picture_of_the_display_is_drawn_from_a_run(tmp_path: Path) -> None:
    lines = [json.dumps(record(event)) for event in training()]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    svg = pictures.live(tmp_path)
    words = re.sub(r"<[^>]+>|&#160;", " ", svg)
    assert f"runs/{tmp_path.name}" in words
    assert "contrastive" in words
    assert "@font-face" not in svg


@pytest.mark.slow
def test_the_example_of_few_labels_runs(tmp_path: Path) -> None:
    example, program = ROOT / "examples" / "few_labels.sh", tmp_path / "bin" / "sslcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ssl_cli "$@"\n')
    program.chmod(0o755)
    small = {
        **SMALL,
        "SSLCLI_DATA__SIZE": "8",
        "SSLCLI_DATA__IMAGES": "96",
        "SSLCLI_RUN__MONITOR": "false",
        "SSLCLI_RUN__BATCH": "8",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(["sh", str(example), str(tmp_path / "out")], env=os.environ | small, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out" / "student.onnx").is_file()


SCRIPTS = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "your_own_method"]


@pytest.mark.parametrize("example", SCRIPTS, ids=lambda path: path.stem)
def test_examples_run_and_are_short(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path / "out")])
    runpy.run_path(str(example), run_name="__main__")
    assert "kNN" in capsys.readouterr().out
