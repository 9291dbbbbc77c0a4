"""Nearest neighbours: chunks, limits, and an accuracy that does not depend on the order of tied classes."""

import pytest
import torch

import ssl_cli.transfer.knn
from ssl_cli.transfer.knn import accuracy, knn


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
