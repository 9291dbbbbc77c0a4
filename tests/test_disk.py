"""Folders that a power loss does not undo."""

from pathlib import Path

import pytest

from ssl_cli import disk


def test_a_new_folder_is_synced_in_the_one_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(disk, "sync_folder", synced.append)
    disk.make_folder(tmp_path / "runs" / "first")
    assert (tmp_path / "runs" / "first").is_dir()
    assert {tmp_path, tmp_path / "runs"} <= set(synced)
