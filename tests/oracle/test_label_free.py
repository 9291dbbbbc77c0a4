"""RankMe and neighbour consistency against the definitions in plain loops, without anything of the package in them."""

import math

import numpy as np
import pytest
import torch

from ssl_cli.transfer import label_free
from ssl_cli.transfer.label_free import alignment, consistency, measures, rankme


def plain_rankme(h: np.ndarray) -> float:
    """Equation 1 of arXiv 2210.02885."""
    values = np.linalg.svd(h, compute_uv=False)
    total = sum(float(value) for value in values)
    exponent = 0.0
    for value in values:
        p = float(value) / total + 1e-7
        exponent -= p * math.log(p)
    return math.exp(exponent)


def plain_consistency(images: np.ndarray, views: np.ndarray) -> float:
    hits = 0.0
    for i, view in enumerate(views):
        near = [float(view @ image / np.linalg.norm(view) / np.linalg.norm(image)) for image in images]
        best = [k for k, value in enumerate(near) if value >= max(near) - 1e-6]
        hits += (i in best) / len(best)
    return hits / len(views)


@pytest.mark.parametrize(("rows", "width", "rank"), [(50, 8, 8), (7, 20, 7), (40, 12, 3), (30, 6, 1)])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_rankme(rows: int, width: int, rank: int, offset: float) -> None:
    draw = np.random.default_rng(rows)
    h = draw.normal(size=(rows, rank)) @ draw.normal(size=(rank, width)) + offset
    assert rankme(torch.from_numpy(h)) == pytest.approx(plain_rankme(h), rel=1e-9)


def test_rankme_of_known_matrices() -> None:
    assert rankme(torch.eye(6)) == pytest.approx(6, rel=1e-4)
    assert rankme(torch.ones(9, 4)) == pytest.approx(1, rel=1e-4)
    assert rankme(torch.zeros(9, 4)) == 0.0


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("at_once", [16_000_000, 70])
def test_consistency(noise: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_free, "SIMILARITIES", at_once)
    draw = np.random.default_rng(3)
    images = draw.normal(size=(33, 5))
    images[7] = 2 * images[6]  # equally near: half a hit
    views = images + noise * draw.normal(size=images.shape)
    found = consistency(torch.from_numpy(images), torch.from_numpy(views))
    assert found == pytest.approx(plain_consistency(images, views), abs=1e-6)


def test_consistency_of_known_rows() -> None:
    assert consistency(torch.eye(5), 3 * torch.eye(5)) == 1.0
    assert consistency(torch.eye(5), torch.eye(5).roll(1, 0)) == 0.0
    assert consistency(torch.ones(8, 3), torch.ones(8, 3)) == pytest.approx(1 / 8)
    with pytest.raises(ValueError, match="a view of each image"):
        consistency(torch.eye(5), torch.eye(4))


def test_alignment_and_uniformity_of_plain_loops() -> None:
    """Wang and Isola 2020, equations 5 (alpha 2) and 6 (t 2), of rows of length one; more than 512 of them."""
    draw = np.random.default_rng(0)
    images, first, second = (draw.normal(size=(530, 4)) + 0.3 for _ in range(3))
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second))
    distance = sum(float(((a[i] - b[i]) ** 2).sum()) for i in range(530)) / 530
    potential = sum(float(np.exp(-2 * ((a[i] - a[:i]) ** 2).sum(1)).sum()) for i in range(530)) / (530 * 529 / 2)
    found = measures(*(torch.from_numpy(rows) for rows in (images, first, second)))
    assert found["alignment"] == pytest.approx(distance, rel=1e-9)
    assert found["uniformity"] == pytest.approx(math.log(potential), rel=1e-9)
    assert found["rankme"] == pytest.approx(plain_rankme(images), rel=1e-9)
    assert found["consistency"] == consistency(torch.from_numpy(images), torch.from_numpy(first))


def test_geometry_of_known_rows() -> None:
    assert alignment(torch.eye(3), 5 * torch.eye(3)) == 0.0
    assert alignment(torch.eye(3), -torch.eye(3)) == 4.0
    assert measures(torch.ones(5, 3), torch.ones(5, 3), torch.ones(5, 3))["uniformity"] == pytest.approx(0, abs=1e-9)
    assert measures(torch.eye(2), torch.eye(2)).keys() == {"consistency", "rankme"}
    assert measures(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2))["uniformity"] == 0.0
