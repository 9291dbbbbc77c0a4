"""With one rank each collective returns its input; rank, world size and threads come from the environment."""

import pytest
import torch

from ssl_cli import distributed
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.reader import Reader
from ssl_cli.data.sources import open_pretraining
from ssl_cli.world import World, default_threads, plan_for, processors, world

LAUNCHED = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


def test_one_rank_communicates_nothing() -> None:
    x = torch.rand(3, 2)
    assert distributed.all_gather(x, [3]) is x
    assert distributed.gather_rows(x, slice(None), 3) is x
    assert distributed.all_reduce_sum(x) is x
    assert distributed.mean_over_ranks(x, 1.0) is x
    assert distributed.to_host(x) is x
    assert distributed.all_reduce_max(3, 1) == [3, 1]
    assert distributed.broadcast_bytes(b"data") == b"data"
    assert distributed.all_gather_bytes(b"data") == [b"data"]
    assert (distributed.rank(), distributed.world_size()) == (0, 1)


def test_gradients_are_reduced_in_buckets_of_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 40)
    tensors = [torch.zeros(5), torch.zeros(5), torch.zeros(1), torch.zeros(3, dtype=torch.float64), torch.zeros(50)]
    assert [[len(t) for t in bucket] for bucket in distributed._buckets(tensors)] == [[5, 5], [1], [3], [50]]


def test_the_world_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})
    assert world() == World()
    assert world().is_rank_zero
    monkeypatch.setattr("os.environ", dict(LAUNCHED))
    assert world() == World(5, 8, 1, 4)
    assert not world().is_rank_zero
    monkeypatch.setattr("os.environ", {**LAUNCHED, "TORCHELASTIC_RUN_ID": "sslcli"})
    assert world().launched
    plan_for(3)
    assert world() == World(0, 3, 0, 3, launched=True)


@pytest.mark.parametrize(("cores", "threads"), [(32, 8), (6, 1), (2, 1)])
def test_local_ranks_divide_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("os.environ", dict(LAUNCHED))
    assert (processors(), default_threads()) == (cores, threads)
    with Reader(open_pretraining(DataSettings(images=8), 0), None) as reader:
        assert len(reader._workers) == threads
    monkeypatch.setattr("os.environ", {})
    assert default_threads() == cores
