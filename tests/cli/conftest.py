"""Every test here runs in an empty folder, without the user's own settings, against a fake engine."""

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
    fake = FakeEngine()
    fake.install(monkeypatch)
    return fake
