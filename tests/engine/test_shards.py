"""A step's rows dealt to processes: each row passes once, groups stay together, images are read where they pass."""

from collections import Counter

import pytest
import torch

from ssl_cli.engine.rows import bn_groups
from ssl_cli.engine.shards import Share, StepShare, dealt, own_sizes, spans
from ssl_cli.errors import UsageError


@pytest.mark.parametrize("images", [12, 17])
@pytest.mark.parametrize("group", [4, 5, "global"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_row_passes_in_one_process(images: int, group: int, size: int) -> None:
    groups = bn_groups(images, 2, group, 0, 0, 1)
    if spans(len(groups.sizes), size) and min(groups.sizes) < size:
        return  # refused: see below
    shares = [dealt(groups, images, size, rank) for rank in range(size)]
    rows = torch.cat([share.own.order for share in shares])
    assert sorted(rows.tolist()) == list(range(2 * images))
    own = {tuple(sorted(part.tolist())) for part in torch.split(groups.order, list(groups.sizes))}
    for share in shares:
        assert sum(share.own.sizes) == len(share.own.order)
        parts = torch.split(share.own.order, list(share.own.sizes))
        if share.spanning:
            assert len(parts) == len(groups.sizes)
        else:
            assert all(tuple(sorted(part.tolist())) in own for part in parts)
    most = own_sizes(groups.sizes, images, size)
    assert len(most) == len(shares[0].own.sizes)
    assert all(share.own.sizes[k] <= most[k] for share in shares for k in range(len(most)))


def test_rows_of_a_spanning_group_come_from_every_group() -> None:
    groups = bn_groups(12, 1, 4, 0, 0, 1)
    shares = [dealt(groups, 12, 2, rank) for rank in range(2)]
    assert all(share.spanning and share.own.sizes == (2, 2, 2) for share in shares)
    for k, group in enumerate(torch.split(groups.order, 4)):
        pieces = [torch.split(share.own.order, 2)[k] for share in shares]
        assert torch.equal(torch.cat(pieces), group)


def test_of_one_group_both_views_of_an_image_pass_in_one_process() -> None:
    groups = bn_groups(10, 2, "global", 0, 0, 1)
    for rank in range(3):
        rows = dealt(groups, 10, 3, rank).own.order
        assert Counter((rows % 10).tolist()) == dict.fromkeys({int(row) % 10 for row in rows}, 2)


def test_an_image_is_read_where_one_of_its_rows_passes() -> None:
    share = StepShare(
        Share(tuple(dealt(bn_groups(12, 1, 4, 0, 0, 1), 12, 3, 0).parts), 1),
        Share(tuple(dealt(bn_groups(12, 1, 4, 0, 0, 2), 12, 3, 0).parts), 1),
        12,
    )
    queries, keys = set(share.queries.own.order.tolist()), set(share.targets.own.order.tolist())
    assert set(share.read((1,)).tolist()) == queries | keys
    assert set(share.read(()).tolist()) == queries
    assert set(share.rows_of(0, (1,)).tolist()) == queries
    assert set(share.rows_of(1, (1,)).tolist()) == keys


def test_a_group_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(UsageError, match="too small for 3 processes"):
        dealt(bn_groups(2, 1, 2, 0, 0, 1), 2, 3, 0)
