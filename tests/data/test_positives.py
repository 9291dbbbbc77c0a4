"""Positives by group: drawn by seed, epoch and image alone, and read whatever the threads, the cache and the ranks."""

from collections import Counter
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.loader import Loader
from ssl_cli.data.positives import Positives, positives_of
from ssl_cli.data.source import Groups
from ssl_cli.errors import DataError
from ssl_cli.objective import Batch, PackedImages
from tests.data.pictures import Toy

OF = torch.tensor([5, 0, 5, 1, 2, 0, 5, 2, 2, 2])
GROUP = OF.repeat(5) + 10 * torch.arange(5).repeat_interleave(10)
"""Fifty images: groups of four, three, two and one."""


def grouped(bad: tuple[int, ...] = (), *, ragged: bool = False) -> Toy:
    toy = Toy(50, bad=bad, ragged=ragged)
    toy.groups = Groups(GROUP, [f"g{k}" for k in range(50)])  # type: ignore[attr-defined]
    return toy


def loader(source: Toy, threads: int = 1, cache: Literal["auto", "ram", "none"] = "none", **more: object) -> Loader:
    return Loader(source, 8, 1, threads=threads, cache=cache, positives=Positives(GROUP), **more)  # type: ignore[arg-type]


def of(images: Any) -> list[int]:
    """The numbers of Toy's images, which are filled with them."""
    return [int(image[0, 0, 0]) for image in images]


def test_a_positive_is_another_image_of_the_group_and_each_is_as_likely() -> None:
    positives, index = Positives(GROUP), torch.arange(50)
    drawn = torch.stack([positives.draw(3, epoch, index) for epoch in range(2000)])
    assert torch.equal(GROUP[drawn], GROUP.expand(2000, 50))
    sizes = GROUP.bincount()[GROUP]
    assert positives.alone == 5
    assert bool(((drawn == index) == (sizes == 1)).all())
    for image in (4, 0, 1):
        counts = Counter(drawn[:, image].tolist())
        others = [k for k in range(10) if OF[k] == OF[image] and k != image]
        assert set(counts) == set(others)
        assert all(abs(n - 2000 / len(others)) < 5 * (2000 / len(others)) ** 0.5 for n in counts.values())


def test_a_draw_is_a_function_of_seed_epoch_and_image() -> None:
    positives, index = Positives(GROUP), torch.arange(50)
    whole = positives.draw(3, 7, index)
    some = torch.tensor([44, 3, 20])
    assert torch.equal(positives.draw(3, 7, some), whole[some])
    assert not torch.equal(positives.draw(3, 8, index), whole)
    assert not torch.equal(positives.draw(4, 7, index), whole)
    image = 12  # by hand: an even step from its place among the four of its group
    members = (GROUP[image] == GROUP).nonzero()[:, 0].tolist()
    step = 1 + int(draws.integer(3, 7, torch.tensor([image]), 1, draws.slots("positive", 1)[0], len(members) - 1))
    assert int(whole[image]) == members[(members.index(image) + step) % len(members)]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bad", [(), (4, 17)])
@pytest.mark.parametrize("cache", ["auto", "ram", "none"])
def test_any_step_can_be_the_first(cache: Literal["auto", "ram", "none"], bad: tuple[int, ...], ragged: bool) -> None:
    whole = list(loader(grouped(bad, ragged=ragged), 3, cache).batches(0, 14))
    for start in (0, 5, 6, 13):
        for a, b in zip(whole[start:], loader(grouped(bad, ragged=ragged)).batches(start, 14), strict=True):
            assert torch.equal(a.index, b.index)
            assert of(a.image) == of(b.image) == a.index.tolist()
            assert of(a.partner) == of(b.partner)
            assert a.group is not None
            assert torch.equal(a.group, GROUP[a.index])
            assert not set(of(a.partner)) & set(bad)


@pytest.mark.parametrize("bad", [(), (4,), (14, 17, 18), (0, 2, 6), (1,)])
def test_a_bad_positive_is_replaced_by_another_of_its_group_and_last_by_the_image_itself(bad: tuple[int, ...]) -> None:
    found = list(loader(grouped(bad)).batches(0, 60))
    drawn = Positives(GROUP)
    for batch in found:
        wanted = drawn.draw(1, batch.epoch, batch.index).tolist()
        for image, partner, was in zip(batch.index.tolist(), of(batch.partner), wanted, strict=True):
            assert GROUP[partner] == GROUP[image]
            assert partner == was or was in bad
            others = set((GROUP[image] == GROUP).nonzero()[:, 0].tolist()) - {image, *bad}
            assert partner in (others or {image})


def test_a_rank_reads_the_positives_of_its_rows_and_no_others() -> None:
    """Also where one is bad, and two images of a batch have it: what replaces it must not depend on the rank's rows."""
    bad = (4, 12, 0)
    whole = list(loader(grouped(bad)).batches(0, 18))
    for local in (torch.tensor([6, 0, 3]), torch.tensor([1, 2, 4, 5, 7])):
        toy = grouped(bad)
        for a, b in zip(whole, loader(toy, local_rows=lambda _, rows=local: rows).batches(0, 18), strict=True):
            assert of(b.partner) == [of(a.partner)[row] for row in local.tolist()]
            assert torch.equal(b.index, a.index[local])


def test_images_are_read_once_each_epoch_for_both_views() -> None:
    toy = grouped()
    list(loader(toy, cache="ram").batches(0, 12))
    assert len(toy.reads) <= 50 + 32  # two batches are prefetched, with their positives
    toy = grouped()
    batches = list(loader(toy).batches(0, 6))
    assert len(toy.reads) <= 6 * 16
    assert sum(len({*of(batch.image), *of(batch.partner)}) for batch in batches) <= len(toy.reads)


def test_without_partners_batches_have_groups_alone() -> None:
    batch = next(loader(grouped(), partners=False).batches(0, 1))
    assert batch.partner is None
    assert batch.group is not None
    plain = next(Loader(grouped(), 8, 1).batches(0, 1))
    assert plain.group is None
    assert plain.partner is None
    assert torch.equal(plain.index, batch.index)


def test_second_views_are_of_the_partners_with_the_random_numbers_of_their_image() -> None:
    batch = next(loader(grouped()).batches(0, 1))
    assert batch.partner is not None
    pipeline = Pipeline(AugmentSettings(order=("crop", "flip")), 8, 0)
    views = pipeline(batch)
    apart = [pipeline(Batch(images, batch.label, batch.index))[view] for view, images in enumerate(both(batch))]
    for one, other in zip(views, apart, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(views[1], pipeline(Batch(batch.image, batch.label, batch.index))[1])


def both(batch: Batch) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(batch.image), torch.as_tensor(batch.partner)


@pytest.mark.parametrize("ragged", [False, True])
def test_batches_are_moved_and_selected_with_their_partners(ragged: bool) -> None:
    batch = next(loader(grouped(ragged=ragged)).batches(0, 1))
    rows = torch.tensor([5, 1])
    for moved in (batch, batch.to(torch.device("cpu"))):
        part = moved.select(rows)
        assert of(part.partner) == [of(batch.partner)[row] for row in rows.tolist()]
        assert part.group is not None
        assert batch.group is not None
        assert torch.equal(part.group, batch.group[rows])
        assert of(moved.of_view(1).image) == of(moved.of_view(3).image) == of(batch.partner)
        assert of(moved.of_view(0).image) == batch.index.tolist()
    if ragged:
        packed = Batch(PackedImages.pack(list(batch.image)), batch.label, batch.index, partner=batch.partner)
        assert of(packed.of_view(1).image) == of(batch.partner)


def test_a_row_has_the_group_of_its_image_view_by_view() -> None:
    batch = next(loader(grouped()).batches(0, 1))
    found = batch.group_of(torch.zeros(16, 2))
    assert found is not None
    assert found.tolist() == GROUP[batch.index].tolist() * 2
    assert Batch([], batch.label, batch.index).group_of(torch.zeros(16, 2)) is None


def test_images_without_a_group_are_groups_of_one() -> None:
    toy = grouped()
    toy.groups = Groups(torch.where(GROUP == 5, -1, GROUP), [f"g{k}" for k in range(50)])  # type: ignore[attr-defined]
    found = positives_of(DataSettings(positives="group"), toy)
    assert found is not None
    assert found.alone == 5 + 3
    assert positives_of(DataSettings(positives="group"), toy) is found  # sorted once
    assert positives_of(DataSettings(), toy) is None


def test_a_set_without_groups_of_two_is_refused() -> None:
    with pytest.raises(DataError, match="has no groups"):
        positives_of(DataSettings(positives="group"), Toy(8))
    toy = Toy(8)
    toy.groups = Groups(torch.tensor([0, 1, 2, -1, -1, 3, 4, 5]), list("abcdef"))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"Each of the 8 images .* alone") as caught:
        positives_of(DataSettings(positives="group"), toy)
    assert "--group-by" in caught.value.hint
