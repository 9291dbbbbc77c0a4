"""What DATA means, to pretraining and to evaluation."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv

from ssl_cli.config.tree import DataSettings
from ssl_cli.data import catalogue
from ssl_cli.data.loader import Loader
from ssl_cli.data.places import require_data
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.errors import DataError
from tests.data.pictures import folder, save


def paths(source: Source) -> Iterator[str]:
    return (source.path(k) for k in range(len(source)))


def test_nothing_means_shapes() -> None:
    source = open_pretraining(DataSettings(images=4000, size=16), 3)
    assert isinstance(source, BatchedSource)
    assert (len(source), source.name) == (4000, "shapes:train")
    for split in ("test", "validation"):
        evaluation = open_evaluation(DataSettings(images=4000, size=16), 3, split)
        assert evaluation.queries.name == f"shapes:{split}"
        assert (len(evaluation.bank), len(evaluation.queries)) == (4000, 500)
        assert split in evaluation.note
    assert len(open_evaluation(DataSettings(), 3).queries) == 2048
    assert len(open_evaluation(DataSettings(images=10**6), 3).queries) == 2048


def test_an_existing_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "cifar10", {"a": 3, "b": 3})
    monkeypatch.chdir(tmp_path)
    assert len(open_pretraining(DataSettings(source="cifar10"), 0)) == 6


def test_train_is_preferred(tmp_path: Path) -> None:
    folder(tmp_path, {"train/a": 3, "train/b": 2, "test/a": 1, "test/b": 1, "val/a": 2, "val/b": 2})
    settings = DataSettings(source=str(tmp_path))
    assert len(open_pretraining(settings, 0)) == 5
    evaluation = open_evaluation(settings, 0)
    assert (len(evaluation.bank), len(evaluation.queries)) == (5, 2)
    assert "test/" in evaluation.note
    validation = open_evaluation(settings, 0, "validation")
    assert all("/train/" in path for path in [*paths(validation.bank), *paths(validation.queries)])


def test_val_and_test_data(tmp_path: Path) -> None:
    folder(tmp_path / "one", {"train/a": 3, "train/b": 2, "val/a": 2, "val/b": 2})
    folder(tmp_path / "two", {"b": 1, "c": 2})
    settings = DataSettings(source=str(tmp_path / "one"))
    assert len(open_evaluation(settings, 0).queries) == 4
    evaluation = open_evaluation(settings.model_copy(update={"test": str(tmp_path / "two")}), 0)
    assert evaluation.queries.classes == ("a", "b", "c")
    assert evaluation.queries.labels.tolist() == [1, 2, 2]
    assert "'c'" in evaluation.note
    folder(tmp_path / "three", {"x": 1, "y": 1})
    with pytest.raises(DataError, match="are not among"):
        open_evaluation(settings.model_copy(update={"test": str(tmp_path / "three")}), 0)


def test_a_stratified_split_is_stated_and_repeats(tmp_path: Path) -> None:
    folder(tmp_path, {"a": 20, "b": 10, "c": 2, "d": 1})
    one, two = (open_evaluation(DataSettings(source=str(tmp_path)), seed) for seed in (1, 1))
    assert list(paths(one.queries)) == list(paths(two.queries))
    assert one.queries.labels.bincount().tolist() == [4, 2, 1]
    assert one.bank.labels.bincount().tolist() == [16, 8, 1, 1]
    assert not set(paths(one.bank)) & set(paths(one.queries))
    assert "seed 1" in one.note
    other = open_evaluation(DataSettings(source=str(tmp_path)), 2)
    assert list(paths(other.queries)) != list(paths(one.queries))


def test_no_labels(tmp_path: Path) -> None:
    folder(tmp_path, {".": 4})
    with pytest.raises(DataError, match="have no labels"):
        open_evaluation(DataSettings(source=str(tmp_path)), 0)
    folder(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match="one image of each class"):
        open_evaluation(DataSettings(source=str(tmp_path)), 0)


def test_limit(tmp_path: Path) -> None:
    folder(tmp_path / "labelled", {"a": 3, "b": 7})
    source = open_pretraining(DataSettings(source=str(tmp_path / "labelled"), limit=4), 0)
    assert source.labels.tolist() == [0] * 3 + [1] * 4
    assert [Path(path).name for path in paths(source)] == ["000.png", "001.png", "002.png"] + [
        f"{k:03}.png" for k in range(4)
    ]
    assert source.read(6)[0, 0, 0] == 6
    folder(tmp_path / "plain", {".": 9})
    assert len(open_pretraining(DataSettings(source=str(tmp_path / "plain"), limit=4), 0)) == 4
    shapes = open_pretraining(DataSettings(limit=2, size=8), 0)
    assert isinstance(shapes, BatchedSource)
    assert torch.equal(shapes.read_many(torch.tensor([3]))[0], shapes.read(3))


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("cifr10", "no folder and no data set", "cifar10"),
        ("shaps", "no folder and no data set", "shapes"),
        ("stl10:unlabelled", "no split", "unlabeled"),
        ("./photos", "does not exist", ""),
        ("cifar10", "not in the data folder", "--download"),
        ("imagenette", "not in the data folder", "--download"),
        ("stl10", "not in the data folder", "--download"),
    ],
)
def test_what_is_not_there(
    source: str, message: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_pretraining(DataSettings(source=source, folder=str(tmp_path)), 0)
    assert hint in caught.value.hint
    assert not capsys.readouterr().out


def test_fake() -> None:
    evaluation = open_evaluation(DataSettings(source="fake", size=8), 0)
    assert evaluation.bank.read(0).shape == (3, 8, 8)
    assert len(evaluation.bank) == len(evaluation.queries) == catalogue.FAKE_IMAGES
    assert not torch.equal(evaluation.bank.read(0), evaluation.queries.read(0))


def test_arrays_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        content = {"data": images.reshape(6, -1), "labels": [0, 1, 2, 0, 1, 2]}
        (base / name).write_bytes(pickle.dumps(content))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b", "c"]}))
    with pytest.raises(DataError, match="not in the data folder"):  # checked before it is unpickled
        open_pretraining(DataSettings(source="cifar10", folder=str(tmp_path)), 0)
    monkeypatch.setattr(tv.CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(tv.cifar, "check_integrity", lambda *_: True)
    source = open_pretraining(DataSettings(source="CIFAR10", folder=str(tmp_path)), 0)
    assert (len(source), source.classes) == (30, ("a", "b", "c"))
    assert isinstance(source, BatchedSource)
    assert torch.equal(source.read_many(torch.tensor([7, 2])), torch.from_numpy(images[[1, 2]]))
    assert len(open_evaluation(DataSettings(source="cifar10:test", folder=str(tmp_path)), 0).queries) == 6


def test_files_of_torchvision(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n02102040"):
            save(tmp_path / "imagenette2" / split / wnid / "0.JPEG", 9)
    evaluation = open_evaluation(DataSettings(source="imagenette", folder=str(tmp_path)), 0)
    assert evaluation.bank.classes == ("tench", "English springer")
    assert evaluation.queries.labels.tolist() == [0, 1]
    assert int(evaluation.queries.read(1)[0, 0, 0]) == 9


def test_gray_arrays_become_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gray:
        def __init__(self, **_: Any) -> None:
            self.data = torch.full((2, 4, 4), 7, dtype=torch.uint8)
            self.targets = torch.tensor([1, 0])

    monkeypatch.setitem(catalogue.CATALOGUE, "mnist", catalogue.Entry(Gray, {"train": {}}))
    source = open_pretraining(DataSettings(source="mnist"), 0)
    assert source.read(1).shape == (3, 4, 4)
    assert source.classes == ("0", "1")


def test_the_first_image_that_cannot_be_read_ends_the_run_where_that_is_asked_for(tmp_path: Path) -> None:
    folder(tmp_path, {"a": 8, "b": 4})
    (tmp_path / "a" / "bad.png").write_text("no image")
    for limit in (None, 100):
        skip = DataSettings(source=str(tmp_path), limit=limit)
        loader = Loader(open_pretraining(skip, 0), 12, 0)
        assert len(list(loader.batches(0, 3))) == 3
        assert [Path(skipped.path).name for skipped in loader.skipped] == ["bad.png"]
        source = open_pretraining(skip.model_copy(update={"on_bad_image": "fail"}), 0)
        with pytest.raises(DataError, match=r"bad\.png cannot be read: it is not an image") as caught:
            list(Loader(source, 12, 0).batches(0, 3))
        assert "--on-bad-image skip" in caught.value.hint


def test_a_link_in_a_circle_next_to_an_unknown_name_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="called 'loop'"):
        require_data(DataSettings(source="loop"))
