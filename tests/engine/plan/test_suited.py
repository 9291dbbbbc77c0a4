"""Crops and flips are chosen by whether they suit the images; what is given stays, and a run records what it took."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli import checkpoint
from ssl_cli.config.sources import settle
from ssl_cli.config.tree import Fitted, Settings
from ssl_cli.data.sample import median_side
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.plan.suited import FEWEST, suited
from ssl_cli.errors import UsageError
from ssl_cli.events import Finished
from ssl_cli.transfer.pixels import two_sample_accuracy
from tests.engine.test_pretrain import COST, only, run, settings

SCALE: Fitted = "augment.crop.scale"
FLIP: Fitted = "augment.flip.p"


def pictures(folder: Path, kind: str, count: int = 48) -> Path:
    """Write images with a direction (bright to the right), with a place (a bright middle), or with neither."""
    folder.mkdir()
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    pattern = {"direction": 90 * x, "place": 180 * (np.hypot(x, y) < 0.5), "neither": 0 * x}[kind]
    for i in range(count):
        noise = np.random.default_rng(i).normal(100, 40, (24, 24, 3))
        Image.fromarray((pattern[..., None] + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def asked(folder: Path, *sets: str, **given: Any) -> Settings:
    tables = {"method": {"name": "simclr"}, "data": {"source": str(folder)}}
    return settle(tables, sets, env={}, user_file=Path("none"), **given).settings


def chosen(settings: Settings) -> dict[Fitted, Any]:
    source = open_pretraining(settings.data, 0)
    return suited(settings, source, median_side(source))[0]


@pytest.mark.parametrize(
    ("kind", "crops", "flips"),
    [("neither", 0.2, 0.5), ("direction", 0.4, 0.0), ("place", 0.4, 0.5)],
)
def test_the_choice_follows_the_images(tmp_path: Path, kind: str, crops: float, flips: float) -> None:
    found = asked(pictures(tmp_path / "photos", kind))
    values, (choice,) = suited(found, open_pretraining(found.data, 0), None)
    assert values == {SCALE: (crops, 1.0), FLIP: flips}
    assert choice.value == f"crops from {100 * crops:.0f} %, {'flips' if flips else 'no flips'}"


def test_what_is_given_stays(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", "direction")
    assert chosen(asked(folder, "augment.flip.p=0.5")) == {SCALE: (0.4, 1.0)}
    assert chosen(asked(folder, "augment.order=['crop','jitter']")) == {SCALE: (0.4, 1.0)}
    assert chosen(asked(folder, "augment.crop.scale=[0.1,0.3]", "augment.flip.p=0.5")) == {}
    assert chosen(asked(folder, gentle=True)) == {}
    assert chosen(asked(folder, "run.recipe=cifar")) == {}


def test_smaller_crops_than_all_others_are_widened(tmp_path: Path) -> None:
    found = asked(pictures(tmp_path / "photos", "place"))
    crop = found.augment.crop.model_copy(update={"scale": (0.1, 0.3)})
    small = found.model_copy(update={"augment": found.augment.model_copy(update={"crop": crop})})
    assert chosen(small)[SCALE] == (0.4, 0.4)


def test_few_images_and_bad_ones_choose_nothing(tmp_path: Path) -> None:
    assert chosen(asked(pictures(tmp_path / "few", "direction", FEWEST - 1))) == {}
    bad = pictures(tmp_path / "bad", "direction")
    for path in bad.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    assert chosen(asked(bad)) == {}
    assert suited(asked(bad), None, None) == ({}, ())


def test_a_run_records_what_it_took_and_a_resume_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pictures(tmp_path / "photos", "direction"), tmp_path / "run"
    more = {"fit": [SCALE, FLIP], "out": str(out), "checkpoint_every": 1}
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)
    begun = settings(out, data={"source": str(folder)}, run=more)
    assert begun.augment.flip.p > 0
    first = run(begun)
    planned = json.loads((out / "plan.json").read_text())
    assert planned["resolved"]["sized"] == {SCALE: [0.4, 1.0], FLIP: 0.0}
    assert "augmentation" in {choice["name"] for choice in planned["choices"]}
    state = checkpoint.load(checkpoint.locate(str(out))[0])
    assert state["settings"]["augment"]["flip"]["p"] == 0
    monkeypatch.setattr("ssl_cli.engine.plan.suited.IMAGES", (0, 0))  # a choice that is made again would be another one
    longer = begun.model_copy(update={"schedule": begun.schedule.model_copy(update={"epochs": 3.0})})
    again = run(longer, resume=True, schedule__epochs="--epochs")
    assert only(again, Finished)[0].step > only(first, Finished)[0].step
    assert checkpoint.load(checkpoint.locate(str(out))[0])["settings"]["augment"]["flip"]["p"] == 0
    with pytest.raises(UsageError, match=r"augment.flip.p is 0.0 in this run and cannot become 0.5"):
        run(longer, resume=True, augment__flip__p="--set")


def test_of_large_images_fewer_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, looked = asked(pictures(tmp_path / "photos", "direction")), list[int]()
    monkeypatch.setattr("ssl_cli.engine.plan.suited.IMAGES", (20, 512))

    def accuracy(first: torch.Tensor, second: torch.Tensor) -> float:
        assert first.shape == second.shape
        looked.append(len(first))
        return 0.5

    monkeypatch.setattr("ssl_cli.engine.plan.suited.two_sample_accuracy", accuracy)
    for pixels in (2**27, 30 * 24**2, 24**2):
        monkeypatch.setattr("ssl_cli.engine.plan.suited.PIXELS", pixels)
        chosen(given)
    assert looked == [48, 48, 30, 30, 20, 20]


def test_the_accuracy_is_that_of_a_ridge_regression_on_held_out_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(30, 5, generator=generator) + shift for shift in (0.0, 0.4))
    right = 0
    for fold in range(2):
        x = torch.cat([first[1 - fold :: 2], second[1 - fold :: 2]]).double().numpy()
        y = np.r_[np.ones(15), -np.ones(15)]
        mean = x.mean(0)
        x = x - mean
        penalty = 0.03 * np.trace(x @ x.T) / len(x)
        weight = np.linalg.solve(x.T @ x + penalty * np.eye(5), x.T @ y)  # the primal problem
        right += int(((first[fold::2].double().numpy() - mean) @ weight > 0).sum())
        right += int(((second[fold::2].double().numpy() - mean) @ weight < 0).sum())
    assert two_sample_accuracy(first, second) == right / 60
    assert 0.55 < right / 60 < 0.95


def test_equal_samples_are_not_told_apart() -> None:
    rows = torch.zeros(8, 3)
    assert two_sample_accuracy(rows, rows) == 0.5
