"""One process has nobody to talk to: every word is the identity."""

import pytest
import torch

from ssl_cli import comm
from ssl_cli.world import World, plan_for, world


def test_alone_all_words_are_the_identity() -> None:
    x = torch.rand(3, 2)
    assert comm.all_gather(x, [3]) is x
    assert comm.filled(x, slice(None), 3) is x
    assert comm.summed(x) is x
    assert comm.mean(x, 1.0) is x
    assert comm.highest(3, 1) == [3, 1]
    assert comm.told(b"words") == b"words"
    assert (comm.rank(), comm.size()) == (0, 1)
    assert comm.last_words() is None


def test_gradients_travel_in_buckets_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "BUCKET", 40)
    tensors = [torch.zeros(5), torch.zeros(5), torch.zeros(1), torch.zeros(3, dtype=torch.float64), torch.zeros(50)]
    assert [[len(t) for t in bucket] for bucket in comm._buckets(tensors)] == [[5, 5], [1], [3], [50]]


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
