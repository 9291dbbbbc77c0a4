"""Folders in a run's settings are absolute, so that it can be resumed and evaluated from anywhere."""

from pathlib import Path
from typing import Any

import pytest

from ssl_cli.config.images import with_absolute_paths
from ssl_cli.config.tree import Settings


def folders(**data: Any) -> dict[str, Any]:
    settings = with_absolute_paths(Settings.model_validate({"method": {"name": "simclr"}, "data": data}))
    return {name: getattr(settings.data, name) for name in ("source", "test", "folder")}


def test_existing_folders_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "held-out", "sets"):
        (tmp_path / name).mkdir()
    found = folders(source="photos", test="held-out", folder="sets")
    assert found == {"source": f"{tmp_path}/photos", "test": f"{tmp_path}/held-out", "folder": f"{tmp_path}/sets"}


def test_names_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folders(source="cifar10") == {"source": "cifar10", "test": None, "folder": "data"}
    assert folders(source="cifar10", download=True)["folder"] == f"{tmp_path}/data"  # the download makes it
