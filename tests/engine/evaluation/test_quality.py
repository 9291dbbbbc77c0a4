"""What is measured when training ends: by labels or without, at a bounded cost, without any effect on the encoder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli.augment.sheet import png
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.engine.evaluation import quality as module
from ssl_cli.engine.evaluation.quality import quality
from ssl_cli.errors import DataError
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.nn.evaluating import fingerprint
from tests.engine.toy_run import toy_settings, write_run


def photos(folder: Path, count: int = 24, bad: int = 0, width: int = 20) -> Path:
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for k in range(count):
        (folder / f"{k:02}.png").write_bytes(png(torch.randint(256, (3, 16, width), dtype=torch.uint8, generator=draw)))
    for k in range(bad):
        (folder / f"bad{k}.png").write_bytes(b"no picture")
    return folder


def measured(folder: Path, settings: Settings, step: int = 3) -> list[Event]:
    objective = write_run(folder, settings).train()
    (folder / "metrics.jsonl").touch()
    before = fingerprint(objective)
    source = open_pretraining(settings.data, settings.run.seed)
    events = list(quality(objective, settings, "fp32", source, step=step, folder=folder))
    assert fingerprint(objective) == before
    assert all(part.training for part in objective.modules())
    return events


def last(events: list[Event]) -> Any:
    event = events[-1]
    assert isinstance(event, Evaluated)
    assert event.name == "quality"
    return event.result


def test_with_labels_it_is_knn_next_to_the_baselines(tmp_path: Path) -> None:
    knn, event = measured(tmp_path, toy_settings())
    assert isinstance(knn, Evaluated)
    assert (knn.name, knn.step, knn.result["baselines"].keys()) == ("knn", 3, {"pixels", "untrained"})
    found = last([event])
    assert (found["measure"], found["images"]) == ("knn", knn.result["queries"])
    assert found["trained"] == {"top1": knn.result["top1"]}
    assert found["untrained"] == {"top1": knn.result["baselines"]["untrained"]}
    assert found["advice"]["message"]
    assert json.loads((tmp_path / "eval" / "quality.json").read_text())["result"] == found


def test_without_labels_it_is_consistency_and_rankme_and_no_warning(tmp_path: Path) -> None:
    settings = toy_settings(source=str(photos(tmp_path / "photos", bad=1)))
    (event,) = measured(tmp_path / "run", settings)
    found = last([event])
    assert (found["measure"], found["images"], found["width"]) == ("consistency", 24, 32)
    for network in ("trained", "untrained"):
        assert 0 <= found[network]["consistency"] <= 1
        assert 1 <= found[network]["rankme"] <= 24
    assert found["trained"] != found["untrained"]
    assert json.dumps(found)


def test_a_view_that_is_the_image_is_always_found(tmp_path: Path) -> None:
    settings = toy_settings(source=str(photos(tmp_path / "photos", width=16)))
    order, crop = ("crop",), settings.augment.crop.model_copy(update={"scale": (1.0, 1.0), "ratio": (1.0, 1.0)})
    still = settings.model_copy(update={"augment": settings.augment.model_copy(update={"order": order, "crop": crop})})
    assert last(measured(tmp_path / "run", still))["trained"]["consistency"] == 1.0


def test_a_view_that_hides_the_image_is_seldom_found(tmp_path: Path) -> None:
    settings = toy_settings(source=str(photos(tmp_path / "photos")))
    crop = settings.augment.crop.model_copy(update={"scale": (0.02, 0.03)})
    hidden = settings.model_copy(update={"augment": settings.augment.model_copy(update={"crop": crop})})
    assert last(measured(tmp_path / "run", hidden))["trained"]["consistency"] < 0.7


def test_one_class_says_nothing_by_labels(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train", "test"):
        (tmp_path / "data" / name).mkdir()
        photos(tmp_path / "data" / name / "cat", 8)
    assert last(measured(tmp_path / "run", toy_settings(source=str(tmp_path / "data"))))["measure"] == "consistency"


@pytest.mark.parametrize(
    ("seen", "bank", "queries"), [(0, 133, 66), (5 * 300, 200, 100), (10**9, 10_000, 2_000)], ids=str
)
def test_the_cost_is_bounded_by_what_training_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int, bank: int, queries: int
) -> None:
    asked: list[tuple[int, int]] = []
    honest = open_evaluation

    class Watched:
        def __init__(self, *args: Any) -> None:
            self.data = honest(*args)

        def part(self, bank: int, queries: int, seed: int) -> Any:
            asked.append((bank, queries))
            return self.data.part(bank, queries, seed)

    monkeypatch.setattr(module, "open_evaluation", Watched)
    settings = toy_settings()
    batch = settings.run.batch
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"batch": 100})})
    assert batch == 256
    measured(tmp_path, settings, step=seen // 100)
    assert asked[0][1] == queries
    assert abs(asked[0][0] - bank) <= 1


def test_an_error_is_a_warning_and_what_needs_no_labels_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("The test images' classes are others.", "Look again.")

    monkeypatch.setattr(module, "open_evaluation", refuse)
    warned, event = measured(tmp_path, toy_settings())
    assert isinstance(warned, Warned)
    assert "No kNN: The test images' classes are others." in warned.message
    assert last([event])["measure"] == "consistency"
    monkeypatch.setattr(module, "label_free", refuse)
    *_, failed = measured(tmp_path / "again", toy_settings())
    assert isinstance(failed, Warned)
    assert "The quality was not measured" in failed.message
