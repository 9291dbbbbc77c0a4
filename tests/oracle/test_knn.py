"""Weighted kNN against the vote of Wu et al. 2018, section 3.4, in plain loops of Python floats."""

import math

import pytest
import torch

from ssl_cli.transfer.knn import knn

Rows = list[list[float]]


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))


def votes(bank: Rows, labels: list[int], query: list[float], classes: int, k: int, temperature: float) -> list[float]:
    """Share of the vote exp(s / T) that each class gets from the k nearest rows."""
    similarity = [cosine(row, query) for row in bank]
    nearest = sorted(range(len(bank)), key=lambda i: -similarity[i])[:k]
    score = [0.0] * classes
    for i in nearest:
        score[labels[i]] += math.exp(similarity[i] / temperature)
    return [s / sum(score) for s in score]


@pytest.mark.parametrize("k", [1, 5, 37, 200])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_votes_of_plain_loops(k: int, temperature: float) -> None:
    draw = torch.Generator().manual_seed(k)
    bank = torch.randn(60, 7, generator=draw)
    queries = torch.randn(9, 7, generator=draw) * 30  # length must not matter
    labels = torch.randint(4, (60,), generator=draw)
    found = knn(bank, labels, queries, classes=4, k=k, temperature=temperature)
    wanted = [votes(bank.tolist(), labels.tolist(), q, 4, k, temperature) for q in queries.tolist()]
    share = found.scores / found.scores.sum(1, keepdim=True)
    torch.testing.assert_close(share, torch.tensor(wanted), rtol=1e-4, atol=1e-6)
    assert found.k == min(k, 60)
