"""Curves: what was logged, thinned, the last line of a step, and a picture that shows them."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_cli import curves, records
from ssl_cli.cli import main
from ssl_cli.curves import COLOURS, Curve, curves_of, draw
from ssl_cli.engine.pretrain import _draw
from ssl_cli.engine.run.folder import FILES, RunFolder


def stepped(step: int, **values: Any) -> dict[str, Any]:
    return {"event": "stepped", "step": step, "epoch": step / 10, "loss": 5 - step / 100, "lr": 0.1, **values}


def write(folder: Path, *events: Any) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def painted(png: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of the pixels of nearly this colour."""
    return np.argwhere(np.abs(pixels(png) - np.array(colour)).max(2) < 40)


def test_what_was_logged_is_read_with_its_epoch(tmp_path: Path) -> None:
    knn = {"event": "evaluated", "name": "online_knn", "step": 20, "result": {"top1": 0.25}}
    folder = write(
        tmp_path / "a", stepped(10, chance=4.5, numbers={"top1": 0.5, "spread": 1}), stepped(20, loss=None), knn,
        {"event": "evaluated", "name": "quality", "step": 20, "result": {"top1": 0.75}}, "[" * 9999, '{"event": 3}',
        {"event": "stepped", "step": "x", "epoch": 1, "loss": 1}, stepped(30, loss=1e300), stepped(40),
    )  # fmt: skip
    found = curves_of(records.events(folder))
    assert {name: list(curve) for name, curve in found.items()} == {
        "loss": [(1.0, 4.9), (4.0, 4.6)], "chance": [(1.0, 4.5)], "top1": [(1.0, 0.5)], "spread": [(1.0, 1)],
        "lr": [(1.0, 0.1), (2.0, 0.1), (3.0, 0.1), (4.0, 0.1)], "knn": [(2.0, 0.25)],
    }  # fmt: skip


def test_of_a_step_that_was_taken_twice_the_last_one_counts(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", stepped(10), stepped(20), stepped(30), stepped(20, loss=1), stepped(30, loss=2))
    assert list(curves_of(records.events(folder))["loss"]) == [(1.0, 4.9), (2.0, 1), (3.0, 2)]


def test_a_long_run_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST", 50)
    curve = Curve()
    for step in range(1000):
        curve.add(step, step, step)
    points = list(curve)
    assert 20 < len(points) <= 50
    gaps = {round(b[0] - a[0]) for a, b in itertools.pairwise(points)}
    assert len(gaps) == 1
    assert points[-1][0] > 950


def test_a_picture_shows_each_run_in_its_colour_where_its_values_are() -> None:
    def run(*values: float) -> dict[str, Curve]:
        curve = Curve()
        for step, value in enumerate(values):
            curve.add(step, step, value)
        return {"loss": curve}

    png = draw({"a": run(3, 2, 1), "b": run(1, 1, 1)})
    first, second = painted(png, COLOURS[0]), painted(png, COLOURS[1])
    below = first[first[:, 0] > 70]
    left, right = below[below[:, 1].argmin()], below[below[:, 1].argmax()]
    assert left[0] < right[0] - 100  # it falls
    level = second[second[:, 0] > 70]
    assert np.ptp(level[:, 0]) <= 4  # it does not
    assert abs(np.median(level[:, 0]) - right[0]) <= 4  # where the first one ends


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [0.0, 0.0], [1e-9, 3e-9], [-5.0, 1e12]])
def test_any_values_are_drawn(values: list[float]) -> None:
    curve = Curve()
    for step, value in enumerate(values):
        curve.add(step, step, value)
    assert pixels(draw({"a": {"loss": curve, "chance": curve}, "b\x1b": {}})).shape[2] == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (4.6, 5.1, [4.6, 4.7, 4.8, 4.9, 5, 5.1]), (0, 37, [0, 10, 20, 30])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert list(curves._ticks(low, high)) == pytest.approx(expected)


def test_a_run_has_its_curves_at_its_end(tmp_path: Path) -> None:
    small = ["--batch", "8", "--image-size", "16", "--width", "0.0625", "--backbone", "resnet18", "--epochs", "1"]
    sets = ["data.images=16", "run.log_every=1", "run.evaluate=false", "run.monitor=false", "hardware.precision=fp32"]
    words = [*small, *(word for value in sets for word in ("--set", value)), "--out", str(tmp_path / "run")]
    assert main(["pretrain", *words]) == 0
    assert len(painted((tmp_path / "run" / "curves.png").read_bytes(), COLOURS[0])) > 50
    assert "curves.png" in FILES  # which --overwrite deletes


def test_a_picture_that_cannot_be_drawn_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise ValueError("no font")

    monkeypatch.setattr(curves, "write", refuse)
    folder = RunFolder(tmp_path / "run")
    _draw(folder)
    folder.close()
    assert "no font" in (tmp_path / "run" / "train.log").read_text()
