"""The examples under each command's help really run, on small data and with small settings."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from ssl_cli import status
from ssl_cli.cli import app, main
from ssl_cli.ui.screen import TRAINING
from tests.cli.engine import FakeEngine
from tests.test_docs import SMALL

ELSEWHERE = (
    "sslcli doctor --device cuda",
    "sslcli study rivalry",
    "sslcli study --resume",
    "sslcli study show",
)
"""What no machine without a GPU accepts; and studies, which train for hours, and have tests of their own."""


def examples() -> list[str]:
    """The command lines of all help pages, in the order of work."""
    pages = [app.info.epilog, *(command.epilog for command in app.registered_commands)]
    lines = [line.strip() for page in pages for line in (page or "").splitlines() if line.startswith("  sslcli ")]
    commands = [command for line in lines for command in line.split(" && ")]
    return [command for command in dict.fromkeys(commands) if not command.startswith(ELSEWHERE)]


def code_of(line: str) -> int:
    """Run a command line, without the settings file of another one, and without a shell's redirection."""
    code = main(shlex.split(line.partition(" > ")[0])[1:])
    Path("sslcli.toml").unlink(missing_ok=True)
    return code


def test_the_examples_are_accepted(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = ModuleType("ssl_cli.engine.workers.launch")
    launcher.launch = lambda *args, **given: 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, launcher.__name__, launcher)
    for name in (
        "birds/train/a.png",
        "birds/test/a.png",
        "photos/a.png",
        "shards/a.png",
        "archive/a.png",
        "cat.jpg",
        "encoder.onnx",
        "mine.toml",
        "labels.csv",
        "vectors.npy",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for name in ("list.csv", "cells.csv"):
        Path(name).write_text("path\nphotos/a.png\n", encoding="utf-8")
    status.write(Path("runs/x"), "its id", "finished", 0, "")
    Path("runs/x/settings.toml").touch()
    for run in ("first", "photos", "classifier", "student", "cells"):
        shutil.copytree("runs/x", f"runs/{run}")
    lines = examples()
    assert len(lines) >= 5 + 2 * 5
    for line in lines:
        if "--out" in line and "--resume" not in line and line.split()[1] in {*TRAINING, "pipeline"}:
            line += " --overwrite"
        assert code_of(line) == 0, line


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in os.environ if name.startswith("SSLCLI_")]:
        monkeypatch.delenv(name)
    # what the launcher of several processes would leave behind
    launcher = {"OMP_NUM_THREADS": "1", "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT"}
    for name, value in (SMALL | launcher).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/a", "photos/b", "birds/train/a", "birds/train/b", "birds/test/a", "birds/test/b"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(20):
            color = (number * 12, 40 * (folder[-1] == "a"), 90)
            Image.new("RGB", (24, 20), color).save(tmp_path / folder / f"{number}.png")
    for copy in ("shards", "archive"):
        shutil.copytree(tmp_path / "photos", tmp_path / copy)
    Image.new("RGB", (24, 20)).save(tmp_path / "cat.jpg")
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"photos/a/{n}.png\n" for n in range(8)))
    (tmp_path / "cells.csv").write_text("path,group\n" + "".join(f"photos/a/{n}.png,{n % 3}\n" for n in range(8)))
    (tmp_path / "labels.csv").write_text("".join(f"{kind}/{n}.png,{kind}\n" for kind in "ab" for n in range(8)))
    # torchvision has no network as narrow as those of these runs
    lines = [line for line in examples() if "--to torchvision" not in line]
    assert len(lines) >= 5 + 2 * 5
    for line in lines:
        small = re.sub(r"--batch \d+", "--batch 32", line)
        small = re.sub(r"--epochs \d+", "--epochs 1", re.sub(r"data.images=\d+", "data.images=64", small))
        if "runs/cells" in line:
            shutil.copytree("runs/photos", "runs/cells")
        with monkeypatch.context() as patch:
            if "--labels" in line:  # a tenth of the labels are fewer than the batch
                patch.delenv("SSLCLI_RUN__BATCH")
            assert code_of(small) == 0, f"{line}\n{capsys.readouterr().err}"
        capsys.readouterr()
