"""Checkpoints: damaged, foreign and hostile files, and a disk that fails during a write."""

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from ssl_cli import checkpoint, disk
from ssl_cli.errors import CheckpointError, ResourceError


def state(step: int) -> dict[str, Any]:
    return {
        "settings": {}, "resolved": {}, "objective": {"w": torch.full((1000,), float(step))}, "optimiser": {},
        "step": step, "epoch": 0, "cursor": step, "rng": {"seed": 0},
    }  # fmt: skip


def test_the_newest_three_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20, 100_000_000):
        checkpoint.save(tmp_path, state(step), keep=3)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [
        "step_00000015.pt", "step_00000020.pt", "step_100000000.pt",
    ]  # fmt: skip
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["step"] == 100_000_000
    assert not warnings


@pytest.mark.parametrize(
    "damage",
    ["flip", "truncate", "empty", "folder", "link to nothing", "pipe", "bad digest", "digest a folder", "deep digest"],
)
def test_the_newest_undamaged_checkpoint_is_loaded(tmp_path: Path, damage: str) -> None:
    tmp_path = tmp_path / "checkpoints"
    tmp_path.mkdir()
    checkpoint.save(tmp_path, state(5), keep=3)
    path = checkpoint.save(tmp_path, state(10), keep=3)
    data = bytearray(path.read_bytes())
    digest = path.with_suffix(".json")
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif "digest" in damage:
        digest.unlink()
        digest.mkdir() if "folder" in damage else digest.write_text("[" * 200_000 if "deep" in damage else "{")
    else:
        path.unlink()
        {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}.get(damage, lambda: path.symlink_to("nowhere"))()
    assert checkpoint.locate(str(tmp_path.parent))[0].stem == "step_00000005"
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["step"] == 5
    assert len(warnings) == 1
    checkpoint.save(tmp_path, state(10), keep=3)  # nothing is in its way


def test_checkpoints_without_their_digests_are_used_and_kept(tmp_path: Path) -> None:
    """As after a backup of `*.pt` alone, or a kill between a checkpoint and its digest."""
    for step in (5, 10):
        checkpoint.save(tmp_path, state(step), keep=3).with_suffix(".json").unlink()
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["step"] == 10
    assert "no .json" in warnings[0]
    for step in (15, 20, 25):
        checkpoint.save(tmp_path, state(step), keep=1)
    # the newest of them was verified when it was used, so it is pruned like any other
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == ["step_00000005.pt", "step_00000025.pt"]


def test_a_damaged_checkpoint_without_its_digest_is_not_used(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(5), keep=3)
    path = checkpoint.save(tmp_path, state(10), keep=3)
    path.with_suffix(".json").unlink()
    data = bytearray(path.read_bytes())
    data[data.index(b"\0\0\x20A" * 4)] ^= 1  # in a tensor, 10.0 in float32
    path.write_bytes(data)
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["step"] == 5
    assert "damaged" in warnings[-1]


def test_a_checkpoint_of_another_run_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(90), keep=1, run="other")
    for step in (5, 10):
        checkpoint.save(tmp_path, state(step), keep=1, run="own")
    found, warnings = checkpoint.newest(tmp_path, "own")
    assert found is not None
    assert found["step"] == 10
    assert warnings == ["step_00000090.pt belongs to another run, by its .json."]
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == ["step_00000010.pt", "step_00000090.pt"]


def test_a_checkpoint_of_another_format_is_an_error_and_not_touched(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {**state(5), "schema": 99}, keep=3)
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.newest(tmp_path)
    assert path.exists()


def test_all_damaged_is_an_error_each_time(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(5), keep=3)
    path.write_bytes(b"nothing")
    for _ in range(2):  # the second call finds only .corrupt files
        with pytest.raises(CheckpointError, match="None of the checkpoints"):
            checkpoint.newest(tmp_path)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("canary",)


@pytest.mark.parametrize("kind", ["text", "pickle", "foreign", "payload", "claim"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pt"
    if kind == "text":
        path.write_text("hello")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "foreign":
        torch.save({"model": {}}, path)
    elif kind == "payload":
        torch.save({**state(1), "schema": 1, "versions": Payload()}, path)
    else:
        huge = torch.zeros(1).as_strided((10**6, 10**6), (0, 0))
        torch.save({**state(1), "schema": 1, "versions": {}, "objective": {"w": huge}}, path)
    with pytest.raises(CheckpointError):
        checkpoint.load(checkpoint.locate(str(path))[0])
    assert not (tmp_path / "canary").exists()


def test_an_archive_of_another_kind_is_called_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        archive.writestr("x/version", "1")
    with pytest.raises(CheckpointError, match=r"x\.pt2 is damaged, or not a checkpoint: it is not a file of tensors\."):
        checkpoint.load(tmp_path / "x.pt2")


def test_find_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run or checkpoint"):
        checkpoint.locate(str(tmp_path / "nowhere"))[0]
    with pytest.raises(CheckpointError, match="is no run"):
        checkpoint.locate(str(tmp_path))[0]


def test_a_full_disk_is_named_and_no_file_is_left(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def write(file: BinaryIO) -> None:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(ResourceError, match="no room left"):
        disk.write_atomic(tmp_path / "file", write)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk.write_bytes(path, b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"new, but only hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        disk.write_atomic(path, write)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_digest_is_of_the_file(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(3), keep=2)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["sha256"] == disk.sha256(path)
    assert facts["size"] == path.stat().st_size
