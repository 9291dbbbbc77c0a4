"""What operations say of themselves: the parameters they drew, and how far they go."""

import json
from typing import Any

import pytest
import torch

from ssl_cli.augment.crop import Crop
from ssl_cli.augment.jitter import HUE, NAMES, Jitter, Jittered
from ssl_cli.augment.pipeline import Pipeline, sides_of
from ssl_cli.config.augment import AugmentSettings, CropSettings, JitterSettings
from ssl_cli.registry import OPS, load

from .pictures import batch, pictures

SETTINGS = AugmentSettings()
EVERY = AugmentSettings(order=tuple(OPS))


@pytest.mark.parametrize("name", OPS)
def test_what_is_told_is_what_was_applied(name: str) -> None:
    """An image whose operation tells of nothing is as it was; one whose operation tells of something has changed."""
    images = batch(pictures(64, 24, 32))
    pipeline = Pipeline(EVERY, 16, seed=3)
    sides = sides_of(images.image)
    params = pipeline.draw(images, 0)
    x = pipeline.ops["crop"].apply(images.image, params["crop"])
    told = [pipeline.ops[name].describe(params[name], row, sides) for row in range(64)]
    if name in {"crop", "normalize"}:
        assert {drawn is None for drawn in told} == {name == "normalize"}
        return
    y = pipeline.ops[name].apply(x.clone(), params[name])
    changed = [not torch.equal(before, after) for before, after in zip(x, y, strict=True)]
    assert changed == [drawn is not None for drawn in told]
    assert len(set(changed)) == 2


def test_parameters_are_those_drawn_and_fit_json() -> None:
    images = batch(pictures(32, 40, 60))
    pipeline = Pipeline(EVERY, 16, seed=0)
    sides = sides_of(images.image)
    params = pipeline.draw(images, 1)
    for row in range(32):
        told = pipeline.describe(params, row, sides)
        assert [name for name in EVERY.order if name in told] == list(told)
        value: dict[str, Any] = json.loads(json.dumps({name: drawn.value for name, drawn in told.items()}))
        box = params["crop"]
        assert value["crop"] == {side: int(getattr(box, side)[row]) for side in ("top", "left", "height", "width")}
        area = value["crop"]["height"] * value["crop"]["width"] / 24
        assert told["crop"].words == f"crop {area:.0f} % at {value['crop']['left']},{value['crop']['top']}"
        if "blur" in told:
            assert value["blur"]["sigma"] == pytest.approx(float(params["blur"].sigma[row]), abs=1e-6)
            assert told["blur"].words == f"blur {value['blur']['sigma']:.1f}"
        if "noise" in told:
            assert value["noise"]["sigma"] == pytest.approx(float(params["noise"].sigma[row]), abs=1e-6)
            assert told["noise"].words == f"noise {value['noise']['sigma']:.2f}"
        if "rotate" in told:
            assert value["rotate"] == {"degrees": 90 * int(params["rotate"].turns[row])}
            assert told["rotate"].words == f"rotate {value['rotate']['degrees']}"
        if "cutout" in told:
            patch = value["cutout"]
            assert patch == {side: int(getattr(params["cutout"], side)[row]) for side in patch}
            share = patch["height"] * patch["width"] / 2.56
            assert told["cutout"].words == f"cutout {share:.0f} % at {patch['left']},{patch['top']}"
        if "jitter" in told:
            assert value["jitter"]["order"] == [NAMES[k] for k in params["jitter"].order[row]]
            for k, name in enumerate(NAMES):
                assert value["jitter"][name] == pytest.approx(float(params["jitter"].factor[row, k]), abs=1e-6)


def test_jitter_in_words() -> None:
    jitter = Jitter(JitterSettings(), 16)
    params = Jittered(
        torch.tensor([True, False]),
        torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3]]),
        torch.tensor([[1.2, 0.8, 1.0, 0.04], [1.0, 1.0, 1.0, 0.0]]),
    )
    sides = torch.tensor([[16, 16]] * 2)
    told = jitter.describe(params, 0, sides)
    assert told is not None
    assert told.words == "jitter hue +0.04 con 0.80 bri 1.20"
    assert jitter.describe(params, 1, sides) is None


@pytest.mark.parametrize("name", OPS)
def test_sweeps_run_over_the_range_of_the_settings(name: str) -> None:
    op = load(OPS[name])(getattr(SETTINGS, name), 16)
    sides = torch.tensor([[40, 60], [64, 64], [50, 300]])
    rows = op.sweep(sides, 5)
    told = [[op.describe(params, 1, sides) for params in line] for line in rows.values()]
    values: list[list[Any]] = [[drawn.value if drawn else None for drawn in line] for line in told]
    if name in {"flip", "gray", "solarize", "sobel"}:
        assert values == [[None, True]]
    elif name == "rotate":
        assert values == [[None, {"degrees": 90}, {"degrees": 180}, {"degrees": 270}]]
    elif name == "cutout":
        sides_of_patches = [(value["height"], value["width"]) for value in values[0]]
        assert sides_of_patches == [(4, 4), (5, 5), (6, 6), (7, 7), (8, 8)]
        assert all(abs(2 * value["top"] + value["height"] - 16) <= 1 for value in values[0])
    elif name == "noise":
        assert [value["sigma"] for value in values[0]] == pytest.approx([0.01, 0.0325, 0.055, 0.0775, 0.1])
    elif name == "blur":
        assert [value["sigma"] for value in values[0]] == pytest.approx([0.1, 0.575, 1.05, 1.525, 2.0])
    elif name == "crop":
        shares = [value["height"] * value["width"] / 64**2 for value in values[0]]
        assert shares == pytest.approx([1.0, 0.77, 0.54, 0.31, 0.08], abs=0.01)
    elif name == "jitter":
        assert list(rows) == list(NAMES)
        for line, swept in zip(values, NAMES, strict=True):
            low, high = (-0.1, 0.1) if swept == NAMES[HUE] else (0.6, 1.4)
            assert [value[swept] for value in line] == pytest.approx(torch.linspace(low, high, 5).tolist(), abs=1e-5)
            assert all(value[other] == (other != "hue") * 1 for value in line for other in NAMES if other != swept)
    else:
        assert rows == {}


def test_centred_boxes_lie_in_the_middle_and_within_the_ratio() -> None:
    crop = Crop(CropSettings(), 16)
    sides = torch.tensor([[40, 60], [60, 40], [64, 64], [50, 300], [300, 50], [1, 1], [1, 900]])
    for share in (1.0, 0.3, 0.08):
        box = crop.centred(sides, share)
        for (h, w), (top, left, height, width) in zip(sides.tolist(), torch.stack(box, 1).tolist(), strict=True):
            assert 1 <= height <= h
            assert 1 <= width <= w
            assert abs(2 * top + height - h) <= 1
            assert abs(2 * left + width - w) <= 1
    whole = torch.stack(crop.centred(sides), 1).tolist()
    assert whole[:3] == [[0, 3, 40, 53], [3, 0, 53, 40], [0, 0, 64, 64]]
