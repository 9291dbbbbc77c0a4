"""Counting answers part by part: accuracy, each class, and the confusion matrix, against plain loops."""

import pytest
import torch
from torch import Tensor

from ssl_cli.transfer import tally as module
from ssl_cli.transfer.tally import Tally, accuracy

NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]


def answers(seed: int) -> tuple[Tensor, Tensor]:
    """Scores of few values, so that many are equal, and labels; no image is a gnu."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(4, (50, 7), generator=draw).float(), torch.randint(6, (50,), generator=draw)


def plain(scores: list[list[float]], labels: list[int]) -> tuple[list[list[float]], float]:
    """The confusion matrix, where equal bests share an image, and the top-1 hits."""
    matrix, right = [[0.0] * 7 for _ in range(7)], 0.0
    for row, label in zip(scores, labels, strict=True):
        best = [k for k, value in enumerate(row) if value == max(row)]
        for k in best:
            matrix[label][k] += 1 / len(best)
        right += (label in best) / len(best)
    return matrix, right


@pytest.mark.parametrize("classes", [5, 6])
def test_top5_of_five_classes_is_left_out(classes: int) -> None:
    tally = Tally(classes)
    tally.add(torch.eye(classes), torch.arange(classes))
    assert tally.accuracies() == {"top1": 1, "top5": None if classes == 5 else 1}


@pytest.mark.parametrize("part", [50, 7, 1])
def test_equals_plain_loops_in_parts_of_any_size(part: int) -> None:
    scores, labels = answers(part)
    tally = Tally(7)
    for start in range(0, 50, part):
        tally.add(scores[start : start + part], labels[start : start + part])
    matrix, right = plain(scores.tolist(), labels.tolist())
    assert tally.confusion is not None
    torch.testing.assert_close(tally.confusion, torch.tensor(matrix, dtype=torch.float64))
    assert (tally.top1, tally.top5) == pytest.approx(accuracy(scores, labels))
    assert tally.top1 == pytest.approx(right / 50)
    found = tally.per_class(NAMES)
    assert found.keys() == set(NAMES[:6])
    for number, name in enumerate(NAMES[:6]):
        assert found[name]["images"] == int((labels == number).sum())
        assert found[name]["top1"] == pytest.approx(matrix[number][number] / sum(matrix[number]))


def test_counts_are_whole_where_nothing_is_equal() -> None:
    tally = Tally(3)
    tally.add(torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2]))
    assert tally.counts() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert all(isinstance(count, int) for row in tally.counts() for count in row)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_an_image_without_a_finite_score_counts_nowhere(value: float) -> None:
    tally = Tally(3)
    tally.add(torch.full((2, 3), value), torch.tensor([0, 1]))
    assert (tally.top1, tally.counts()) == (0.0, [[0, 0, 0]] * 3)


def test_of_too_many_classes_there_is_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLASSES", 2)
    tally = Tally(3)
    tally.add(torch.eye(3), torch.arange(3))
    assert (tally.top1, tally.counts()) == (1.0, [])
