"""How many images there are, at a glance, and that opening them finds as many."""

from pathlib import Path

import pytest
import torch

from ssl_cli.augment.sheet import png
from ssl_cli.config.tree import DataSettings
from ssl_cli.data import glance as module
from ssl_cli.data.glance import SIZES, glance
from ssl_cli.data.places import SPLITS
from ssl_cli.data.sources import open_pretraining
from ssl_cli.errors import DataError


def fill(root: Path, **counts: int) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for i in range(count):
            (root / label / f"{i}.png").write_bytes(png(torch.zeros(3, 8, 8, dtype=torch.uint8)))
    return root


@pytest.mark.parametrize("limit", [None, 2, 100])
@pytest.mark.parametrize("shape", ["labelled", "train", "flat"])
def test_a_folder(tmp_path: Path, shape: str, limit: int | None) -> None:
    fill(tmp_path / "train" if shape == "train" else tmp_path, **({"a": 5} if shape == "flat" else {"a": 5, "b": 1}))
    settings = DataSettings(source=str(tmp_path), limit=limit)
    seen = glance(settings, 0)
    assert seen.images == len(open_pretraining(settings, 0))
    assert seen.few is not None
    assert seen.few.read(0).shape == (3, 8, 8)


@pytest.mark.parametrize("limit", [None, 3, 50])
def test_the_embedded_set(limit: int | None) -> None:
    settings = DataSettings(images=60, size=16, limit=limit)
    assert glance(settings, 0).images == len(open_pretraining(settings, 0))


def test_a_large_folder_is_counted_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, a=5)
    monkeypatch.setattr(module, "SECONDS", -1.0)
    seen = glance(DataSettings(source=str(tmp_path)), 0)
    assert seen.images == 1
    assert "may be more" in seen.doubt
    assert glance(DataSettings(source=str(tmp_path)), 0, enough=4).images == 4


def test_every_named_set_has_its_sizes() -> None:
    assert {name: set(splits) for name, splits in SPLITS.items()} == {name: set(s) for name, (_, s) in SIZES.items()}
    assert glance(DataSettings(source="cifar10"), 0).images == 50_000
    assert glance(DataSettings(source="cifar10", limit=10), 0).images == 100
    assert glance(DataSettings(source="stl10:unlabeled", limit=10), 0).images == 10
    assert glance(DataSettings(source="stl10:all", limit=10), 0).images == 110
    assert "published" in glance(DataSettings(source="cifar10"), 0).doubt
    assert (
        len(open_pretraining(DataSettings(source="fake", size=8), 0)) == glance(DataSettings(source="fake"), 0).images
    )


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        glance(DataSettings(source=str(tmp_path)), 0)
    with pytest.raises(DataError, match="called"):
        glance(DataSettings(source="cifer10"), 0)
