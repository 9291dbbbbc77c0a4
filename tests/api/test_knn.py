"""`ssl_cli.knn`: votes in plain loops, and sentences for what cannot be voted on."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import ssl_cli
from ssl_cli.errors import UsageError


def plain(bank: Any, labels: Any, query: Any, k: int, temperature: float) -> int:
    """Wu et al. 2018, section 3.4, in loops of Python's numbers."""

    def cosine(a: Any, b: Any) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))

    nearest = sorted(((cosine(row, query), label) for row, label in zip(bank, labels, strict=True)), reverse=True)[:k]
    votes: dict[int, float] = {}
    for similarity, label in nearest:
        votes[label] = votes.get(label, 0.0) + math.exp(similarity / temperature)
    return max(votes, key=votes.__getitem__)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.07), (30, 0.5)])
def test_answers_are_those_of_plain_loops(k: int, temperature: float) -> None:
    draw = np.random.default_rng(k)
    bank, queries, labels = draw.normal(size=(40, 6)), draw.normal(size=(9, 6)), draw.integers(0, 4, 40)
    votes = ssl_cli.knn(bank, labels, queries, k, temperature)
    expected = [plain(bank.tolist(), labels.tolist(), query, k, temperature) for query in queries.tolist()]
    assert votes.answers.tolist() == expected
    assert votes.scores.shape == (9, 4)
    lists = ssl_cli.knn(bank.tolist(), labels.tolist(), torch.from_numpy(queries).tolist(), k, temperature)
    assert lists.answers.tolist() == expected


def test_k_is_the_smallest_class_by_default() -> None:
    bank, labels = torch.eye(5), [0, 0, 0, 1, 1]
    assert ssl_cli.knn(bank, labels, bank).k == 2
    assert ssl_cli.knn(bank, labels, bank[:0]).answers.shape == (0,)


@pytest.mark.parametrize(
    ("bank", "labels", "queries", "options", "said"),
    [
        (np.ones((3, 4)), [0, 1, 1], np.ones((2, 5)), {}, "shapes do not fit"),
        (np.ones((3, 4)), [0, 1], np.ones((2, 4)), {}, "shapes do not fit"),
        (np.ones(3), [0, 1, 1], np.ones((2, 4)), {}, "shapes do not fit"),
        (np.ones((3, 4)), [0, 1, -1], np.ones((2, 4)), {}, "whole numbers from 0"),
        (np.ones((3, 4)), [0.0, 1, 1], np.ones((2, 4)), {}, "whole numbers from 0"),
        (np.full((3, 4), np.nan), [0, 1, 1], np.ones((2, 4)), {}, "not finite"),
        (np.ones((0, 4)), np.zeros(0, np.int64), np.ones((2, 4)), {}, "needs bank rows"),
        (np.ones((3, 4)), [0, 1, 1], np.ones((2, 4)), {"k": 0}, "needs bank rows, k >= 1"),
        (np.ones((3, 4)), [0, 1, 1], np.ones((2, 4)), {"temperature": 0.0}, "T > 0"),
    ],
)
def test_what_cannot_be_voted_on(bank: Any, labels: Any, queries: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ssl_cli.knn(bank, labels, queries, **options)
