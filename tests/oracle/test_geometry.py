"""The geometry of rows against plain loops."""

import math

import pytest
import torch

from ssl_cli.losses.geometry import agreement, effective_rank, spread, uniformity
from tests.oracle.agree import agree


def rows(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    z = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(z, dim=1)


def distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("count", "dim"), [(2, 3), (7, 2), (16, 8), (5, 16)])
def test_spread_uniformity_and_rank(count: int, dim: int) -> None:
    z = rows(count, dim)
    plain = z.tolist()
    deviations = []
    for d in range(dim):
        mean = sum(row[d] for row in plain) / count
        deviations.append(math.sqrt(sum((row[d] - mean) ** 2 for row in plain) / (count - 1)))
    agree("spread", spread(z), sum(deviations) / dim * math.sqrt(dim))
    pairs = [math.exp(-2 * distance(plain[i], plain[j])) for i in range(count) for j in range(count) if i != j]
    agree("uniformity", uniformity(z), math.log(sum(pairs) / len(pairs)))
    values = torch.linalg.svdvals(z).tolist()
    shares = [value / sum(values) for value in values if value > 1e-12]
    assert effective_rank(z).item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-6)


def test_the_ends_of_the_scales() -> None:
    one = rows(1, 16).expand(64, 16)
    assert spread(one).item() == pytest.approx(0, abs=1e-12)
    assert uniformity(one).item() == pytest.approx(0, abs=1e-9)
    assert effective_rank(one).item() == pytest.approx(1, abs=1e-3)
    sphere = rows(4096, 16)
    assert spread(sphere).item() == pytest.approx(1, abs=0.03)
    assert effective_rank(sphere).item() == pytest.approx(16, abs=0.3)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_agreement(count: int) -> None:
    anchor, positive = rows(count, 3), rows(count, 3, seed=1)
    everyone = torch.cat([anchor, positive])
    index = torch.arange(count)
    found = agreement(anchor, positive, everyone, excluded=(index, index + count))
    a, p, all_rows = anchor.tolist(), positive.tolist(), everyone.tolist()
    hits = 0
    for i in range(count):
        rivals = [distance(a[i], other) for j, other in enumerate(all_rows) if j not in {i, i + count}]
        hits += distance(a[i], p[i]) < min(rivals)
    agree("contrastive top-1", found["top1"], hits / count)
    agree("alignment", found["alignment"], sum(distance(x, y) for x, y in zip(a, p, strict=True)) / count)


def test_a_tie_is_no_hit() -> None:
    same = rows(1, 4).expand(6, 4)
    assert agreement(same, same, same)["top1"].item() == 0
