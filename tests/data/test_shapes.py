"""The embedded set: deterministic, disjoint streams, readable classes that pixels do not tell."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_cli.data.glyphs import GLYPHS
from ssl_cli.data.shapes import CLASSES, GROUND, LUMA, LUMINANCE_GAP, Shapes, _colour, _noise


def test_image_depends_on_seed_stream_and_index_alone() -> None:
    few, many = Shapes(30, 32, seed=3), Shapes(5000, 32, seed=3)
    picked = torch.tensor([29, 3, 17])
    assert torch.equal(few.read_many(picked), many.read_many(torch.arange(30))[picked])
    assert torch.equal(few.read(3), few.read_many(picked)[1])
    assert not torch.equal(few.read(3), Shapes(30, 32, seed=4).read(3))


def test_streams_share_no_image() -> None:
    everything = torch.arange(600)
    streams = [Shapes(600, 32, 0, "train"), Shapes(600, 32, 0, "test"), Shapes(600, 32, 0, "validation")]
    images = torch.cat([s.read_many(everything) for s in streams]).flatten(1)
    assert len({image.numpy().tobytes() for image in images}) == 1800


@pytest.mark.parametrize("size", [8, 32, 33, 96, 224])
def test_any_size(size: int) -> None:
    image = Shapes(12, size, 0).read(5)
    assert image.shape == (3, size, size)
    assert image.dtype == torch.uint8


def test_sizes_show_the_same_scene() -> None:
    small, large = (Shapes(24, size, 0).read_many(torch.arange(24)).float() for size in (32, 96))
    assert (F.avg_pool2d(large, 3) - small).abs().mean() < 10


def test_labels_are_balanced_and_named() -> None:
    source = Shapes(1200, 32, 0)
    assert len(CLASSES) >= 10
    assert source.labels.bincount().tolist() == [1200 // len(CLASSES)] * len(CLASSES)


def test_colours_stand_off_the_ground() -> None:
    numbers = torch.rand(4, 20000, generator=torch.Generator().manual_seed(0))
    colour = _colour(*numbers)
    assert colour.min() >= -1e-6
    assert colour.max() <= 1 + 1e-6
    gap = ((colour * torch.tensor(LUMA)).sum(-1) - GROUND).abs()
    assert gap.min() >= LUMINANCE_GAP - 1e-5


def test_noise_is_normal() -> None:
    noise = _noise(0, -1, torch.arange(200), 3071)
    assert noise.shape == (200, 3071)
    assert abs(noise.mean()) < 1e-4
    assert abs(noise.std() - 0.03) < 1e-4
    assert abs((noise.abs() > 0.06).double().mean() - 0.0455) < 0.002
    correlation = torch.corrcoef(torch.stack([noise[:, :-4].flatten(), noise[:, 4:].flatten()]))[0, 1]
    assert abs(correlation) < 0.005


@pytest.mark.parametrize("name", CLASSES)
def test_glyph_is_a_signed_distance_within_the_unit_circle(name: str) -> None:
    axis = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    distance = GLYPHS[name](x, y)
    inside = distance < 0
    assert 0.02 < inside.double().mean() < 0.3
    assert not inside[torch.hypot(x, y) > 1.01].any()
    slope = torch.gradient(distance, spacing=(axis[1] - axis[0]).item())
    rim = distance.abs() < 0.04
    assert (torch.hypot(*slope)[rim].median() - 1).abs() < 0.05


def test_pixels_do_not_tell_the_class() -> None:
    bank, queries = Shapes(2048, 32, 0), Shapes(512, 32, 0, "test")
    rows, asked = _flat(bank), _flat(queries)
    values, nearest = (F.normalize(asked) @ F.normalize(rows).T).topk(100)
    votes = torch.zeros(len(asked), len(CLASSES)).scatter_add_(1, bank.labels[nearest], (values / 0.1).exp())
    assert (votes.argmax(1) == queries.labels).double().mean() < 0.35
    ridge = rows.T @ rows + 3000 * torch.eye(rows.shape[1])
    weights = torch.linalg.solve(ridge, rows.T @ F.one_hot(bank.labels, len(CLASSES)).float())
    assert ((asked @ weights).argmax(1) == queries.labels).double().mean() < 0.35


def _flat(source: Shapes) -> Tensor:
    return source.read_many(torch.arange(len(source))).flatten(1).float() / 255 - 0.5
