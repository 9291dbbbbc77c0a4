"""Hostile checkpoints: none runs code, takes long or much memory, or ends in anything but a sentence."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_cli import checkpoint
from ssl_cli.cli import main
from ssl_cli.errors import CheckpointError
from tests.engine.run.test_paths import SMALL
from tests.hostile.checkpoint_kinds import CANARY, KINDS, SELF

pytestmark = pytest.mark.filterwarnings("ignore")  # those of torch, about what these files are
SECONDS, MEMORY = 5, 500 << 20  # bytes above that of Python and torch
SAMPLE = [
    "os.system", "torch.load without its safety", "bytearray of a terabyte", "numpy objects", "legacy", "deflated bomb",
    "two of one name", "names that climb", "truncated directory", "numel beyond the record", "stride of 0", "meta",
    "a list in itself", "a step that is true", "a pipe",
]  # fmt: skip


@pytest.mark.parametrize("kind", SAMPLE)
def test_it_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    KINDS[kind](tmp_path / SELF)
    with pytest.raises(CheckpointError):
        checkpoint.load(Path(SELF))
    assert not (tmp_path / CANARY).exists()


@pytest.mark.slow
def test_each_is_refused_in_time_and_memory(tmp_path: Path) -> None:
    """In one process: its peak is the largest of all."""
    assert len(KINDS) >= 50
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / SELF).write_bytes(b"nothing")
    for number, write in enumerate(KINDS.values(), 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / SELF)
    words = [sys.executable, "-m", "tests.hostile.read_checkpoints", *map(str, range(len(KINDS) + 1))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    first, *found = map(json.loads, done.stdout.splitlines())
    assert len(found) == len(KINDS), list(KINDS)[len(found)] + done.stderr
    for name, facts in zip(KINDS, found, strict=True):
        assert facts["code"] == 4, (name, facts)
        assert facts["seconds"] < SECONDS, (name, facts)
        assert facts["peak"] < first["peak"] + MEMORY, (name, facts)
    assert not list(tmp_path.rglob(CANARY))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["pretrain", "--out", str(out), *SMALL, "--set", "data.images=32"]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_refuses_it(
    kind: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    KINDS[kind](tmp_path / SELF)
    commands = [["knn-eval", SELF], ["export", SELF, "-o", "encoder.onnx"]]
    if Path(SELF).is_file():
        newest = checkpoint.locate(str(shutil.copytree(finished, tmp_path / "run")))[0]
        newest.write_bytes(Path(SELF).read_bytes())
        facts = json.loads(newest.with_suffix(".json").read_text())
        facts["sha256"] = hashlib.sha256(newest.read_bytes()).hexdigest()
        newest.with_suffix(".json").write_text(json.dumps(facts))
        commands.append(["pretrain", "--resume", "--out", "run"])
    for words in commands:
        code = main(words)
        said = capsys.readouterr().err
        assert code == 4, said
        assert "Traceback" not in said
        assert "\x1b" not in said
    assert not list(tmp_path.rglob(CANARY))
