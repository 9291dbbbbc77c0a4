"""A test with the fake engine runs in a folder of its own, without the user's own settings."""

import os
from pathlib import Path

import pytest

from tests.cli.engine import FakeEngine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    for name in [name for name in os.environ if name.startswith("SSLCLI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "tests/a.png", "runs/x/checkpoints/step_00000001.pt"):  # what preflight looks for
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "mine.py").touch()
    fake = FakeEngine()
    fake.install(monkeypatch)
    return fake
