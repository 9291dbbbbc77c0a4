"""Parts of a set: a share of each class, and the order in which few images show most of it."""

import pytest
import torch

from ssl_cli.data.arrays import Arrays
from ssl_cli.data.sources import Evaluation
from ssl_cli.data.split import part_of, spread


def labelled(*labels: int) -> Arrays:
    classes = tuple(map(str, range(max(labels, default=-1) + 1)))
    return Arrays("set", torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), torch.tensor(labels), classes)


@pytest.mark.parametrize(
    ("labels", "count", "first"),
    [
        ((0, 0, 0, 1, 1, 1, 2, 2, 2), 3, {0, 3, 6}),
        ((0, 0, 0, 1, 1, 1, 2, 2, 2), 5, {0, 3, 6, 1, 4}),
        ((0,) * 8 + (1,) * 4, 4, {0, 4, 8, 10}),  # evenly apart in each class, too
        (tuple(range(10)), 5, {0, 2, 4, 6, 8}),
        ((0, 0, 0, 0, 1), 3, {0, 4, 2}),
        ((-1,) * 8, 4, {0, 2, 4, 6}),
        ((-1, -1, 0, 2), 3, {0, 2, 3}),  # without a label, and a class without an image
        ((-1,) * 3, 8, {0, 1, 2}),
    ],
)
def test_the_first_of_an_order_are_spread_over_classes_or_the_set(
    labels: tuple[int, ...], count: int, first: set[int]
) -> None:
    order = spread(labelled(*labels), count).tolist()
    assert set(order[:count]) == first
    assert sorted(order) == list(range(len(labels)))
    others = spread(labelled(*labels), count, 1).tolist()
    assert sorted(others) == sorted(order)
    assert (others != order) is (len(set(labels)) < len(labels))


def test_a_part_has_its_share_of_each_class_and_is_chosen_by_the_seed() -> None:
    source = labelled(*[0] * 60, *[1] * 30, *[2] * 2)
    part = part_of(source, 46, 0)
    assert part.labels.bincount().tolist() == [30, 15, 1]
    assert torch.equal(part_of(source, 46, 0).indices, part.indices)  # type: ignore[attr-defined]
    assert not torch.equal(part_of(source, 46, 1).indices, part.indices)  # type: ignore[attr-defined]
    assert part_of(source, 92, 0) is source


def test_a_part_of_an_evaluation_says_so() -> None:
    whole = Evaluation(labelled(*[0, 1] * 40), labelled(*[0, 1] * 10), "a split")
    part = whole.part(40, 20, 3)
    assert (len(part.bank), len(part.queries)) == (40, 20)
    assert part.note == "a split; a part of them, chosen by seed 3: knn-eval takes all"
    assert whole.part(80, 20, 3).note == "a split"
