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


def pretrain(photos: Path, out: Path, cache: Path | None) -> dict[str, torch.Tensor]:
    words = ["data.cache=none"] if cache is None else ["data.cache=disk", f"data.cache_folder={cache}"]
    sets = [part for word in words for part in ("--set", word)]
    assert main(["pretrain", str(photos), "--out", str(out), *SMALL, *sets]) == 0
    return weights(out)


def test_a_run_computes_the_same_with_and_without_it(tmp_path: Path) -> None:
    photos, cache = folder(tmp_path / "photos", {"a": 10, "b": 9}), tmp_path / "cache"
    wanted = pretrain(photos, tmp_path / "none", None)
    found = pretrain(photos, tmp_path / "first", cache)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    plan = json.loads((tmp_path / "first" / "plan.json").read_text())
    (row,) = [row for row in plan["choices"] if row["name"] == "image cache"]
    assert (row["value"], row["reason"]) == ("on disk", f"4 kB decoded, in {cache}")


@pytest.mark.slow
def test_a_later_run_reads_it_and_one_without_room_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, cache = folder(tmp_path / "photos", {"a": 10, "b": 9}), tmp_path / "cache"
    wanted = pretrain(photos, tmp_path / "first", cache)
    found = pretrain(photos, tmp_path / "second", cache)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert len(list(cache.glob("images-*/*.pixels"))) == 1  # the second run wrote nothing
    again = ["pretrain", "--resume", "--out", str(tmp_path / "second"), "--epochs", "3", "--set", "data.cache=none"]
    assert main(again) == 0
    capsys.readouterr()
    monkeypatch.setattr(module, "room_in", lambda root: 700)
    found = pretrain(photos, tmp_path / "full", tmp_path / "other")
    assert "The cache of decoded images takes no more" in capsys.readouterr().err
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
