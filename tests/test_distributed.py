"""One process has nobody to talk to: every word is the identity."""

import pytest
import torch

from ssl_cli import distributed
from ssl_cli.world import World, plan_for, world


def test_alone_all_words_are_the_identity() -> None:
    x = torch.rand(3, 2)
    assert distributed.all_gather(x, [3]) is x
    assert distributed.gather_rows(x, slice(None), 3) is x
    assert distributed.all_reduce_sum(x) is x
    assert distributed.mean_over_ranks(x, 1.0) is x
    assert distributed.all_reduce_max(3, 1) == [3, 1]
    assert distributed.broadcast_bytes(b"words") == b"words"
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.last_words() is None


def test_gradients_travel_in_buckets_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BUCKET", 40)
    tensors = [torch.zeros(5), torch.zeros(5), torch.zeros(1), torch.zeros(3, dtype=torch.float64), torch.zeros(50)]
    assert [[len(t) for t in bucket] for bucket in distributed._buckets(tensors)] == [[5, 5], [1], [3], [50]]


def test_the_world_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert world() == World()
    assert world().first
    monkeypatch.setattr("os.environ", {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"})
    assert world() == World(5, 8, 1, 4)
    assert not world().first
    plan_for(3)
    assert world() == World(0, 3, 0, 3)
