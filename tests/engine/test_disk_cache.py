"""A run with its images cached on disk computes what one without computes, and says where they are."""

import json
from pathlib import Path

import pytest
import torch

from ssl_cli import checkpoint
from ssl_cli.cli import main
from ssl_cli.data import image_store as module
from tests.data.pictures import folder

SMALL = [
    "--epochs", "2", "--batch", "8", "--image-size", "8", "--width", "0.0625", "--device", "cpu", "--precision", "fp32",
    "--set", "hardware.memory_format=channels_last", "--set", "run.evaluate=false", "--set", "run.monitor=false",
    "--recipe", "shapes",
]  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint.load(*checkpoint.locate(str(run)))["objective"]
    return found


def test_a_run_computes_the_same_with_and_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, cache = folder(tmp_path / "photos", {"a": 10, "b": 9}), tmp_path / "cache"
    on_disk = ["--set", "data.cache=disk", "--set", f"data.cache_folder={cache}"]
    runs = {"none": ["--set", "data.cache=none"], "first": on_disk, "second": on_disk}
    for name, words in runs.items():
        assert main(["pretrain", str(photos), "--out", str(tmp_path / name), *SMALL, *words]) == 0
    one, *others = (weights(tmp_path / name) for name in runs)
    assert all(torch.equal(one[key], other[key]) for other in others for key in one)
    plan = json.loads((tmp_path / "first" / "plan.json").read_text())
    (row,) = [row for row in plan["choices"] if row["name"] == "image cache"]
    assert (row["value"], row["reason"]) == ("on disk", f"4 kB decoded, in {cache}")
    assert len(list(cache.glob("images-*/*.pixels"))) == 1  # the second run wrote nothing
    again = ["pretrain", "--resume", "--out", str(tmp_path / "second"), "--epochs", "3", "--set", "data.cache=none"]
    assert main(again) == 0
    capsys.readouterr()
    monkeypatch.setattr(module, "room_in", lambda root: 700)
    module._open_here.clear()
    elsewhere = ["--set", "data.cache=disk", "--set", f"data.cache_folder={tmp_path / 'other'}"]
    assert main(["pretrain", str(photos), "--out", str(tmp_path / "full"), *SMALL, *elsewhere]) == 0
    assert "The cache of decoded images takes no more" in capsys.readouterr().err
    full = weights(tmp_path / "full")
    assert all(torch.equal(one[key], full[key]) for key in one)
