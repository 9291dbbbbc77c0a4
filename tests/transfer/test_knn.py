"""Nearest neighbours: chunks, limits, and an accuracy that does not depend on the order of tied classes."""

import subprocess
import sys

import pytest
import torch

import ssl_cli.transfer.knn
from ssl_cli.transfer.knn import knn, score
from ssl_cli.transfer.tally import accuracy
from tests.transfer.live_bytes import LiveBytes


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(50, 8, generator=draw), torch.randn(23, 8, generator=draw)
    labels = torch.randint(5, (50,), generator=draw)
    whole = knn(bank, labels, queries, classes=5, k=9)
    monkeypatch.setattr(ssl_cli.transfer.knn, "SIMILARITIES", 150)  # three queries at a time
    torch.testing.assert_close(knn(bank, labels, queries, classes=5, k=9).scores, whole.scores)


def test_tiny_temperature_is_the_nearest_neighbour() -> None:
    bank = torch.eye(4)
    found = knn(bank, torch.arange(4), bank + 0.1, classes=4, k=4, temperature=1e-6)
    assert found.scores.isfinite().all()
    assert accuracy(found.scores, torch.arange(4)) == (1.0, 1.0)


def test_k_is_capped_at_the_bank() -> None:
    assert knn(torch.eye(3), torch.arange(3), torch.eye(3), classes=3, k=200).k == 3


@pytest.mark.parametrize(("rows", "k", "temperature"), [(0, 1, 0.1), (3, 0, 0.1), (3, 1, 0.0)])
def test_refuses_what_cannot_vote(rows: int, k: int, temperature: float) -> None:
    with pytest.raises(ValueError, match="needs bank rows"):
        knn(torch.ones(rows, 2), torch.zeros(rows).long(), torch.ones(1, 2), classes=2, k=k, temperature=temperature)


def test_top1_and_top5() -> None:
    scores = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]] * 4)
    assert accuracy(scores, torch.tensor([0, 4, 5, 6])) == (0.25, 0.5)


def test_ties_count_as_in_a_random_order_of_the_classes() -> None:
    scores = torch.tensor([[2.0, 2, 1, 0, 0, 0, 0]])
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 1, 0, 2, 3, 4, 5]):
        assert accuracy(scores[:, order], torch.tensor([order.index(0)])) == (0.5, 1.0)
    assert accuracy(scores, torch.tensor([5])) == (0.0, 0.5)  # two of four places among the best five
    assert accuracy(torch.ones(4, 8), torch.tensor([0, 3, 5, 7])) == (0.125, 0.625)


@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
def test_a_score_that_is_not_finite_is_a_miss(value: float) -> None:
    assert accuracy(torch.full((3, 10), value), torch.tensor([0, 5, 9])) == (0.0, 0.0)
    assert accuracy(torch.tensor([[value, value, 1.0]]), torch.tensor([0])) == (0.0, 0.0)


def test_a_nan_of_another_class_does_not_make_a_hit() -> None:
    assert accuracy(torch.tensor([[1.0, torch.nan]]), torch.tensor([0]))[0] == 0.0


def test_a_class_without_a_vote_is_a_miss() -> None:
    votes = knn(torch.eye(4), torch.arange(4), torch.eye(4)[:1], classes=4, k=1)
    assert accuracy(votes.ranking, torch.tensor([0])) == (1.0, 1.0)
    assert accuracy(votes.ranking, torch.tensor([3])) == (0.0, 0.0)


def test_fewer_than_five_classes() -> None:
    assert accuracy(torch.tensor([[2.0, 1, 0]] * 2), torch.tensor([0, 2])) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("rows", "classes", "asked", "dtype"),
    [
        (50_000, 10, 700, torch.float32),
        (50_000, 1000, 700, torch.float16),
        (200, 2, 100_000, torch.float32),
        (200, 1000, 10_000, torch.float32),
    ],
)
def test_memory_is_bounded(rows: int, classes: int, asked: int, dtype: torch.dtype) -> None:
    """On the device that computes shapes alone: no time, and no bytes but ours. More queries are more parts alike."""
    with torch.device("meta"):
        bank, queries = torch.empty(rows, 512, dtype=dtype), torch.empty(asked, 512, dtype=dtype)
        labels, query_labels = torch.empty(rows, dtype=torch.int64), torch.empty(asked, dtype=torch.int64)
    with LiveBytes() as live:
        score(bank, labels, queries, query_labels, classes=classes, ks=(1, 200), temperatures=(0.07, 0.1))
    assert 10e6 < live.peak < 300e6


def test_bytes_are_counted() -> None:
    with LiveBytes() as live:
        x = torch.empty(1000, dtype=torch.float32, device="meta")
        for _ in range(3):
            y = x + 1
            del y
        z = x.view(10, 100).t()
    assert len(z) == 100
    assert live.peak == 8000


@pytest.mark.slow
def test_memory_of_the_process_is_bounded() -> None:
    """A bank of 50,000 and 10,000 queries of 512 numbers: the largest resident size in a process of its own."""
    program = """
import torch
from ssl_cli import memory
from ssl_cli.transfer.knn import score
draw = torch.Generator().manual_seed(0)
bank, queries = torch.randn(50_000, 512, generator=draw), torch.randn(10_000, 512, generator=draw)
labels = [torch.randint(10, (len(rows),), generator=draw) for rows in (bank, queries)]
score(bank[:100], labels[0][:100], queries[:9], labels[1][:9], classes=10, ks=(5,), temperatures=(0.1,))
before = memory.peak(torch.device("cpu"))
score(bank, labels[0], queries, labels[1], classes=10, ks=(1, 5, 20, 200), temperatures=(0.07, 0.1))
print(memory.peak(torch.device("cpu")) - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=900, check=True)
    assert int(done.stdout) < 300e6
