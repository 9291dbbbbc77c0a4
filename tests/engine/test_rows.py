"""Who shares BatchNorm statistics."""

import pytest
import torch

from ssl_cli.engine.rows import bn_groups
from ssl_cli.engine.shards import Share


def members(images: int, views: int, group: int, *stream: int) -> list[list[int]]:
    groups = bn_groups(images, views, group, *stream)
    return [part.tolist() for part in torch.split(groups.order, list(groups.sizes))]


@pytest.mark.parametrize(("images", "views", "group"), [(256, 2, 512), (100, 1, 512), (7, 2, 14)])
def test_one_group_where_all_rows_fit(images: int, views: int, group: int) -> None:
    assert members(images, views, group, 0, 0, 1) == [list(range(images * views))]


def test_global_is_one_group_at_any_size() -> None:
    assert bn_groups(5000, 2, "global", 0, 0, 1).sizes == (10000,)


@pytest.mark.parametrize(("images", "group"), [(256, 32), (1000, 512), (4096, 512), (300, 512), (33, 32)])
def test_views_of_an_image_never_share_a_group(images: int, group: int) -> None:
    groups = members(images, 2, group, 3, 5, 1)
    assert sorted(row for rows in groups for row in rows) == list(range(2 * images))
    assert max(map(len, groups)) <= group
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    for rows in groups:
        assert len({row % images for row in rows}) == len(rows)


def test_keys_meet_other_neighbours_than_queries() -> None:
    """Shuffling is real on one device: an image's groupmates differ between views, streams and steps (trap 1)."""
    queries, keys = members(256, 1, 32, 0, 9, 1), members(256, 1, 32, 0, 9, 2)
    later = members(256, 1, 32, 0, 10, 1)
    mates = {row: set(rows) for rows in queries for row in rows}
    for other in (keys, later):
        overlap = [len(mates[row] & set(rows)) for rows in other for row in rows]
        assert sum(overlap) / len(overlap) < 8  # 4.9 by chance, 32 if nothing were shuffled
    first = members(256, 2, 32, 0, 9, 1)
    mates = {row % 256: {r % 256 for r in rows} for rows in first[:8] for row in rows}
    overlap = [len(mates[row % 256] & {r % 256 for r in rows}) for rows in first[8:] for row in rows]
    assert sum(overlap) / len(overlap) < 8


def test_membership_depends_on_seed_and_step_alone() -> None:
    assert members(64, 2, 16, 1, 2, 3) == members(64, 2, 16, 1, 2, 3)
    assert members(64, 2, 16, 1, 2, 3) != members(64, 2, 16, 2, 2, 3)


@pytest.mark.parametrize(("rows", "expected"), [(1, [4] * 6), (8, [8, 8, 8]), (11, [8, 8, 8]), (100, [24])])
def test_micro_batches_hold_whole_groups(rows: int, expected: list[int]) -> None:
    groups = bn_groups(12, 2, 4, 0, 0, 0)
    cut = list(Share((groups,)).micro_batches(rows))
    assert [len(order) for order, _ in cut] == expected
    assert all(sum(sizes) == len(order) for order, sizes in cut)
    assert torch.equal(torch.cat([order for order, _ in cut]), groups.order)


def test_restore_undoes_the_order() -> None:
    groups = bn_groups(12, 2, 4, 0, 0, 0)
    x = torch.arange(24.0)
    assert torch.equal(groups.restore(x[groups.order]), x)
