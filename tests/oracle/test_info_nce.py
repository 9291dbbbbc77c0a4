"""InfoNCE by the paper's words, in plain loops: MoCo, equation 1."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from ssl_cli.losses.info_nce import info_nce


def oracle(q: list[list[float]], k: list[list[float]], queue: list[list[float]], temperature: float) -> float:
    def score(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / temperature

    total = 0.0
    for query, key in zip(q, k, strict=True):
        positive = math.exp(score(query, key))
        total -= math.log(positive / (positive + sum(math.exp(score(query, old)) for old in queue)))
    return total / len(q)


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("queue", [1, 13])
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_equals_the_paper(rows: int, queue: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(rows * 100 + queue)
    q, k, old = (normalize(torch.randn(n, 5, dtype=torch.float64, generator=generator)) for n in (rows, rows, queue))
    q.requires_grad_()
    loss = info_nce(q, k, old, temperature, tile=2 * queue)
    assert float(loss.detach()) == pytest.approx(oracle(q.tolist(), k.tolist(), old.tolist(), temperature), abs=1e-9)
    loss.backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    moved = q.detach().clone()
    moved[0, 0] += 1e-6
    slope = (oracle(moved.tolist(), k.tolist(), old.tolist(), temperature) - float(loss.detach())) / 1e-6
    assert float(q.grad[0, 0]) == pytest.approx(slope, abs=1e-4)


def test_chance_level() -> None:
    same = normalize(torch.ones(4, 3, dtype=torch.float64))
    assert float(info_nce(same, same, same.repeat(5, 1), 0.07)) == pytest.approx(math.log(21))
