"""Batches: any step can be the first, bad and hanging files are replaced, memory changes nothing."""

from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from ssl_cli import draws
from ssl_cli.data.loader import Loader, cap_for, read_all
from ssl_cli.data.shapes import Shapes
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.objective import Batch
from tests.data.gpu import OnGPU, gpu
from tests.data.pictures import Toy


def pixels(batch: Batch) -> list[list[int]]:
    return [image.cpu().flatten().tolist() for image in batch.image]


def same(one: Iterator[Batch] | list[Batch], two: Iterator[Batch] | list[Batch]) -> None:
    for a, b in zip(one, two, strict=True):
        assert (a.step, a.epoch) == (b.step, b.epoch)
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.label, b.label)
        assert pixels(a) == pixels(b)


@pytest.mark.parametrize("source", [Toy(50), Toy(50, ragged=True), Toy(50, bad=(3, 10, 44)), Shapes(50, 8, 0)])
@pytest.mark.parametrize("cache", ["auto", "ram", "none"])
def test_any_step_can_be_the_first(source: Toy | Shapes, cache: Literal["auto", "ram", "none"]) -> None:
    whole = list(Loader(source, 8, 1, threads=3, cache=cache).batches(0, 20))
    for start in (0, 5, 6, 13):
        same(whole[start:], Loader(source, 8, 1, threads=1, cache="none").batches(start, 20))


def test_an_epoch_shows_each_image_once_in_a_new_order() -> None:
    loader = Loader(Toy(50), 8, 1)
    assert loader.steps_per_epoch == 6
    batches = list(loader.batches(0, 12))
    first, second = (torch.cat([b.index for b in batches[k : k + 6]]).tolist() for k in (0, 6))
    assert len(set(first)) == len(set(second)) == 48
    assert first != second
    assert [b.epoch for b in batches] == [0] * 6 + [1] * 6
    assert [b.step for b in batches] == list(range(12))
    for b in batches:
        assert torch.equal(torch.as_tensor(b.image[0])[0, 0, 0], b.index[0].byte())
        assert torch.equal(b.label, b.index % 2)
    other = next(iter(Loader(Toy(50), 8, 2).batches(0, 1)))
    assert other.index.tolist() != batches[0].index.tolist()


def test_equal_sizes_are_one_tensor_and_others_a_list() -> None:
    assert isinstance(next(Loader(Toy(9), 9, 0).batches(0, 1)).image, torch.Tensor)
    assert isinstance(next(Loader(Toy(9, ragged=True), 9, 0).batches(0, 1)).image, list)


@pytest.mark.parametrize("ragged", [False, True])
def test_cached_images_are_read_once(ragged: bool) -> None:
    toy = Toy(16, ragged=ragged)
    for _ in range(2):
        loader = Loader(toy, 4, 0, cache="ram")
        for _ in range(2):
            list(loader.batches(0, 8))
        # Two batches are prefetched, so an image at the end of an epoch may be read twice.
        assert len(toy.reads) <= 16 + 8
        toy.reads.clear()
    list(Loader(toy, 4, 0, cache="none").batches(0, 8))
    assert len(toy.reads) == 32


class Late(Toy):
    """All images are of one size, but for one, which the first epoch leaves out: others of its batch are held then."""

    odd = int(draws.permutation(1, 50, 0)[-1])

    def read(self, index: int, cap: int | None = None) -> torch.Tensor:
        found = super().read(index, cap)
        return torch.cat([found, found], 1) if index == self.odd else found


@pytest.mark.parametrize(
    "source", [Toy(50), Toy(50, bad=(3, 10, 44)), Toy(50, ragged=True), Shapes(50, 8, 0), Late(50)]
)
@pytest.mark.parametrize("memory", [1e9, 1000.0, 0.0])
def test_images_in_gpu_memory_are_those_that_are_read(source: Toy | Shapes, memory: float) -> None:
    with gpu() as device:
        loader = Loader(source, 8, 1, cache_bytes=memory, gpu=device, gpu_cache_bytes=10**6)
        batches = list(loader.batches(0, 20))
    same(batches, Loader(source, 8, 1, cache="none").batches(0, 20))
    there = [isinstance(batch.image, OnGPU) for batch in batches]
    for batch in batches:
        assert len({isinstance(image, OnGPU) for image in batch.image}) == 1
    if isinstance(source, Late):
        assert there[0]
        assert there == sorted(there, reverse=True)
        assert not there[-1]
    else:
        assert not any(there) if getattr(source, "ragged", False) else all(there)


def test_images_in_gpu_memory_are_read_once() -> None:
    toy = Toy(16)
    with gpu() as device:
        list(Loader(toy, 4, 0, cache_bytes=1e9, gpu=device, gpu_cache_bytes=16 * 48).batches(0, 8))
        assert len(toy.reads) <= 16 + 8
        toy.reads.clear()
        list(Loader(toy, 4, 0, cache="none", gpu=device, gpu_cache_bytes=16 * 48).batches(0, 8))
        assert len(toy.reads) == 32


def test_reads_no_further_than_asked() -> None:
    toy = Toy(400)
    batches = Loader(toy, 4, 0).batches(0, 100)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(toy.reads) <= 12


@pytest.mark.parametrize("batch", [49, 50])
def test_batch_as_large_as_the_data(batch: int) -> None:
    assert len(next(Loader(Toy(50), batch, 0).batches(0, 1))) == batch


def test_batch_larger_than_the_data() -> None:
    with pytest.raises(DataError) as caught:
        Loader(Toy(812), 1024, 0)
    assert "--batch 812" in caught.value.hint


def test_bad_files_are_replaced_and_reported_once() -> None:
    toy = Toy(60, bad=(7, 20))
    loader = Loader(toy, 20, 0)
    batches = list(loader.batches(0, 9))
    assert all(len(b) == 20 for b in batches)
    assert not {7, 20} & {k for b in batches for k in b.index.tolist()}
    assert {skip.path for skip in loader.skipped} == {"file\x1b[31m7.png", "file\x1b[31m20.png"}
    assert len(loader.skipped) == 2
    assert all(isinstance(skip, Skipped) for skip in loader.skipped)
    assert len([k for k in toy.reads if k in (7, 20)]) <= 4  # once more at most: read ahead before it was known


@pytest.mark.parametrize("count", [2, 5])
def test_all_files_bad(count: int) -> None:
    with pytest.raises(DataError, match=f"{count} of {count} images"):
        next(Loader(Toy(count, bad=range(count)), 1, 0).batches(0, 1))


def test_too_many_bad_files_end_the_run_without_escapes() -> None:
    with pytest.raises(DataError, match="of 400 images") as caught:
        list(Loader(Toy(400, bad=range(0, 400, 3)), 20, 0).batches(0, 20))
    assert caught.value.message.isprintable()
    list(Loader(Toy(400, bad=range(20)), 20, 0).batches(0, 20))  # just 5 %


def test_hanging_files_are_abandoned() -> None:
    toy = Toy(40, hang=(3, 11, 30))
    try:
        loader = Loader(toy, 10, 0, threads=2, deadline=0.2)
        batches = list(loader.batches(0, 8))
    finally:
        toy.release.set()
    assert not {3, 11, 30} & {k for b in batches for k in b.index.tolist()}
    assert len(loader.skipped) == 3
    assert "longer than 0.2 seconds" in loader.skipped[0].reason
    same(batches, Loader(Toy(40, bad=(3, 11, 30)), 10, 0).batches(0, 8))


def test_waiting_is_counted() -> None:
    loader = Loader(Toy(40), 10, 0)
    list(loader.batches(0, 4))
    assert 0 < loader.wait_seconds < 5


def test_cap() -> None:
    assert [cap_for(size) for size in (8, 32, 96, 224)] == [56, 56, 168, 392]


def test_read_all_in_order_without_the_bad() -> None:
    skipped: list[Skipped] = []
    parts = list(read_all(Toy(30, bad=(4, 29), ragged=True), batch=8, skipped=skipped))
    index = torch.cat([part[2] for part in parts])
    assert index.tolist() == [k for k in range(30) if k not in (4, 29)]
    assert torch.equal(torch.cat([part[1] for part in parts]), index % 2)
    assert [int(image[0, 0, 0]) for part in parts for image in part[0]] == index.tolist()
    assert len(skipped) == 2
    wanted = torch.tensor([5, 2, 9])
    images, labels, index = next(read_all(Shapes(12, 8, 0), wanted))
    assert torch.equal(index, wanted)
    assert torch.equal(labels, wanted)
    assert isinstance(images, torch.Tensor)
    assert torch.equal(images, Shapes(12, 8, 0).read_many(wanted))
