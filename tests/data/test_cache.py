import pytest
import torch

from ssl_cli.data.cache import Cache, Policy
from tests.data.gpu import OnGPU, gpu


def image(size: int, value: int) -> torch.Tensor:
    return torch.full((3, size, size), value, dtype=torch.uint8)


def test_equal_sizes_are_one_tensor_until_another_size_comes() -> None:
    cache = Cache(4, "ram")
    cache.put(torch.tensor([2, 0]), torch.stack([image(4, 2), image(4, 0)]))
    held = cache.take(torch.tensor([0, 2]))
    assert isinstance(held, torch.Tensor)
    assert held[:, 0, 0, 0].tolist() == [0, 2]
    cache.put(torch.tensor([1, 3]), [image(5, 1), image(4, 3)])
    assert cache.has.all()
    assert [int(i[0, 0, 0]) for i in cache.take(torch.arange(4))] == [0, 1, 2, 3]
    assert isinstance(cache.take(torch.tensor([0, 2, 3])), torch.Tensor)


def test_budget() -> None:
    cache = Cache(10, "auto")
    cache.budget = 100.0
    for k in range(10):
        cache.put(torch.tensor([k]), image(4, k)[None])
    assert cache.has.sum() == 2
    none = Cache(10, "none")
    none.put(torch.tensor([1]), image(4, 1)[None])
    assert not none.has.any()


def test_a_kept_row_does_not_keep_its_batch() -> None:
    cache = Cache(100, "auto")
    cache.budget = 100.0
    cache.put(torch.tensor([5]), torch.zeros(50, 3, 4, 4, dtype=torch.uint8)[7:8])
    assert cache.take(torch.tensor([5]))[0].untyped_storage().nbytes() == 48


WHOLE = 4 * 3 * 4 * 4


@pytest.mark.parametrize(("room", "policy", "there"), [
    (WHOLE, "auto", True), (WHOLE - 1, "auto", False), (WHOLE, "ram", False), (WHOLE, "none", False),
])  # fmt: skip
def test_images_of_one_size_are_cached_in_gpu_memory_that_holds_all(room: int, policy: Policy, there: bool) -> None:
    with gpu() as device:
        cache = Cache(4, policy, 1e9, device, room)
        cache.put(torch.tensor([2, 0]), torch.stack([image(4, 2), image(4, 0)]))
        assert cache.on_gpu == there
        assert cache.has.tolist() == [policy != "none", False, policy != "none", False]
        if policy == "none":
            return
        held = cache.take(torch.tensor([0, 2, 0]))
        assert isinstance(held, OnGPU) == there
        assert torch.as_tensor(held)[:, 0, 0, 0].cpu().tolist() == [0, 2, 0]


def test_where_the_first_images_differ_gpu_memory_holds_none() -> None:
    with gpu() as device:
        cache = Cache(4, "auto", 1e9, device, 10**6)
        cache.put(torch.tensor([2, 0]), [image(4, 2), image(5, 0)])
        assert not cache.on_gpu
        assert [int(i[0, 0, 0]) for i in cache.take(torch.tensor([0, 2]))] == [0, 2]


@pytest.mark.parametrize("room", [1000, 150])
def test_sizes_that_differ_later_move_the_images_to_ram_as_far_as_they_fit(room: int) -> None:
    with gpu() as device:
        cache = Cache(6, "auto", room, device, 10**6)
        cache.put(torch.tensor([5, 1, 3]), torch.stack([image(4, 5), image(4, 1), image(4, 3)]))
        assert isinstance(cache.take(torch.tensor([5])), OnGPU)
        cache.put(torch.tensor([0, 2]), [image(5, 0), image(4, 2)])
        assert not cache.on_gpu
        wanted = [1, 3, 5, 0, 2] if room == 1000 else [1, 3, 5]
        assert sorted(cache.has.nonzero()[:, 0].tolist()) == sorted(wanted)
        for k in wanted:
            (held,) = cache.take(torch.tensor([k]))
            assert not isinstance(held, OnGPU)
            assert int(held[0, 0, 0]) == k
            assert held.untyped_storage().nbytes() == held.numel()
        assert cache._used == sum(75 if k == 0 else 48 for k in wanted) <= room
