"""Rows of a step: BatchNorm groups, micro-batches of whole groups, and the division among ranks."""

from collections import Counter

import pytest
import torch

from ssl_cli.engine.rows import Shard, StepRows, bn_groups, local_group_sizes, shard, splits_groups, step_rows
from ssl_cli.errors import UsageError


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


def test_keys_have_other_neighbours_than_queries() -> None:
    """Shuffling has an effect on one device: an image's group differs between views, streams and steps (trap 1)."""
    queries, keys = members(256, 1, 32, 0, 9, 1), members(256, 1, 32, 0, 9, 2)
    later = members(256, 1, 32, 0, 10, 1)
    group_of = {row: set(rows) for rows in queries for row in rows}
    for other in (keys, later):
        overlap = [len(group_of[row] & set(rows)) for rows in other for row in rows]
        assert sum(overlap) / len(overlap) < 8  # 4.9 by chance, 32 without shuffling
    first = members(256, 2, 32, 0, 9, 1)
    group_of = {row % 256: {r % 256 for r in rows} for rows in first[:8] for row in rows}
    overlap = [len(group_of[row % 256] & {r % 256 for r in rows}) for rows in first[8:] for row in rows]
    assert sum(overlap) / len(overlap) < 8


def test_membership_depends_on_seed_and_step_only() -> None:
    assert members(64, 2, 16, 1, 2, 3) == members(64, 2, 16, 1, 2, 3)
    assert members(64, 2, 16, 1, 2, 3) != members(64, 2, 16, 2, 2, 3)


@pytest.mark.parametrize(("rows", "expected"), [(1, [4] * 6), (8, [8, 8, 8]), (11, [8, 8, 8]), (100, [24])])
def test_micro_batches_hold_whole_groups(rows: int, expected: list[int]) -> None:
    groups = bn_groups(12, 2, 4, 0, 0, 0)
    micro_batches = list(Shard((groups,)).micro_batches(rows))
    assert [len(order) for order, _ in micro_batches] == expected
    assert all(sum(sizes) == len(order) for order, sizes in micro_batches)
    assert torch.equal(torch.cat([order for order, _ in micro_batches]), groups.order)


def test_gather_restores_the_row_order() -> None:
    groups = bn_groups(12, 2, 4, 0, 0, 0)
    x = torch.arange(24.0)
    assert torch.equal(Shard((groups,)).gather(x[groups.order]), x)


@pytest.mark.parametrize("images", [12, 17])
@pytest.mark.parametrize("group", [4, 5, "global"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_every_row_is_run_by_one_rank(images: int, group: int, world_size: int) -> None:
    groups = bn_groups(images, 2, group, 0, 0, 1)
    if splits_groups(len(groups.sizes), world_size) and min(groups.sizes) < world_size:
        with pytest.raises(UsageError):
            shard(groups, images, world_size, 0)
        return
    shards = [shard(groups, images, world_size, rank) for rank in range(world_size)]
    rows = torch.cat([part.local.order for part in shards])
    assert sorted(rows.tolist()) == list(range(2 * images))
    whole = {tuple(sorted(part.tolist())) for part in torch.split(groups.order, list(groups.sizes))}
    for part in shards:
        assert sum(part.local.sizes) == len(part.local.order)
        local = torch.split(part.local.order, list(part.local.sizes))
        if part.across_ranks:
            assert len(local) == len(groups.sizes)
        else:
            assert all(tuple(sorted(rows.tolist())) in whole for rows in local)
    largest = local_group_sizes(groups.sizes, images, world_size)
    assert len(largest) == len(shards[0].local.sizes)
    assert all(part.local.sizes[k] <= largest[k] for part in shards for k in range(len(largest)))


def test_a_split_group_has_rows_of_every_group_on_every_rank() -> None:
    groups = bn_groups(12, 1, 4, 0, 0, 1)
    shards = [shard(groups, 12, 2, rank) for rank in range(2)]
    assert all(part.across_ranks and part.local.sizes == (2, 2, 2) for part in shards)
    for k, group in enumerate(torch.split(groups.order, 4)):
        pieces = [torch.split(part.local.order, 2)[k] for part in shards]
        assert torch.equal(torch.cat(pieces), group)


def test_both_views_of_an_image_in_one_group_are_on_the_same_rank() -> None:
    groups = bn_groups(10, 2, "global", 0, 0, 1)
    for rank in range(3):
        rows = shard(groups, 10, 3, rank).local.order
        assert Counter((rows % 10).tolist()) == dict.fromkeys({int(row) % 10 for row in rows}, 2)


def test_a_rank_reads_the_images_whose_rows_it_runs() -> None:
    rows: StepRows = step_rows(1, 12, 4, 0, 0, world_size=3, rank=1)
    queries, keys = set(rows.queries.local.order.tolist()), set(rows.targets.local.order.tolist())
    assert set(rows.images_to_read((1,)).tolist()) == queries | keys
    assert set(rows.images_to_read(()).tolist()) == queries
    assert set(rows.images_of_view(0, (1,)).tolist()) == queries
    assert set(rows.images_of_view(1, (1,)).tolist()) == keys


def test_a_group_smaller_than_the_world_size_is_refused() -> None:
    with pytest.raises(UsageError, match="too small for 3 ranks"):
        shard(bn_groups(2, 1, 2, 0, 0, 1), 2, 3, 0)
