import torch

from ssl_cli.data.cache import Cache


def image(size: int, value: int) -> torch.Tensor:
    return torch.full((3, size, size), value, dtype=torch.uint8)


def test_equal_sizes_share_a_tensor_that_breaks_up_when_they_differ() -> None:
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
