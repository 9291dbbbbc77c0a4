"""Near-duplicates across a split: near by the embedding and by thumbnails, in the same image."""

import torch
from torch import Tensor

from ssl_cli.transfer.duplicates import QUERIES, duplicates_note, near_duplicates


def rows(count: int, width: int, seed: int) -> Tensor:
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return x - x.mean(1, keepdim=True)


def test_a_near_duplicate_is_near_in_both_ways_to_the_same_image() -> None:
    bank, thumbnails = 7 + 3 * rows(300, 64, 0), rows(300, 192, 1)
    queries, seen = 7 + 3 * rows(20, 64, 2), rows(20, 192, 3)
    assert near_duplicates(bank, queries, thumbnails, seen) == (0, 20)
    queries[:6] = bank[:6] + 0.1 * rows(6, 64, 4)
    assert near_duplicates(bank, queries, thumbnails, seen) == (0, 20)  # of one kind, in other pictures
    seen[:4] = thumbnails[:4] + 0.1 * rows(4, 192, 5)
    assert near_duplicates(bank, queries, thumbnails, seen) == (4, 20)
    seen[2:4] = thumbnails[200:202]  # as another image looks
    assert near_duplicates(bank, queries, thumbnails, seen) == (2, 20)


def test_a_shared_offset_and_a_collapse_are_no_nearness() -> None:
    """Embeddings are standardised by the bank; pictures of one colour are like none."""
    bank, queries, thumbnails = 1000 + rows(50, 8, 0) / 1e3, 1000 + rows(10, 8, 1) / 1e3, rows(50, 48, 2)
    assert near_duplicates(bank, queries, thumbnails, thumbnails[:10])[0] < 10
    assert near_duplicates(bank, bank[:10], torch.zeros(50, 48), torch.zeros(10, 48)) == (0, 10)


def test_many_are_looked_at_evenly_spaced_and_said() -> None:
    bank, thumbnails = rows(40, 16, 0), rows(40, 48, 1)
    many, seen = bank.repeat(60, 1), thumbnails.repeat(60, 1)
    assert near_duplicates(bank, many, thumbnails, seen) == (QUERIES, QUERIES)
    words = duplicates_note(bank, many[:3], thumbnails, seen[:3])
    assert words.startswith("3 of 3 test images have a near-duplicate among the training images")
    assert duplicates_note(bank, many[:1], thumbnails, seen[:1]).startswith("1 of 1 test images has")
    assert duplicates_note(bank, -bank[:1], thumbnails, seen[:1]) == ""
