"""How a batch is divided: the cheapest way that fits, what it says it holds, and what is done when memory runs out."""

from itertools import pairwise

import pytest
from ssl_cli.engine.plan.footprint import Footprint

from ssl_cli.engine.plan.divide import Division, Mode, divide, smaller
from ssl_cli.engine.rows import packed
from ssl_cli.nn.bn_groups import bn_groups, group_sizes

PLAIN, SPARING = Footprint(kept=1000, peak=1200, fixed=50), Footprint(kept=200, peak=500, fixed=50)
EIGHT = (256,) * 8


def weigh(checkpointing: bool) -> Footprint:
    return SPARING if checkpointing else PLAIN


def made(room: int, mode: Mode = "auto", sizes: tuple[int, ...] = EIGHT, device: str = "cpu") -> Division:
    found = divide(sizes, weigh, room, mode=mode, device=device)
    assert found is not None
    return found


def test_more_room_costs_less_and_is_never_overrun() -> None:
    rooms = [150_000, 200_000, 400_000, 600_000, 900_000, 1_500_000, 2_100_000, 5_000_000]
    found = [made(room) for room in rooms]
    assert all(division.peak <= room for division, room in zip(found, rooms, strict=True))
    assert all(later.extra <= earlier.extra for earlier, later in pairwise(found))
    modes = [division.mode for division in found]
    assert (modes[0], modes[-1]) == ("checkpointed", "direct")
    assert {"checkpointed", "tail-keep", "direct"} == set(modes)
    assert found[-1].extra == 0


def test_a_kept_graph_is_a_row_that_passes_once() -> None:
    found = made(900_000)
    assert found.mode == "tail-keep"
    assert found.kept == 1 + (900_000 - PLAIN.of(256)) // (1000 * 256)
    assert found.extra == pytest.approx(1 - found.kept / 8)
    assert found.peak == PLAIN.of(256, (found.kept - 1) * 256)


@pytest.mark.parametrize(
    ("mode", "kept", "checkpointing"),
    [("direct", 8, False), ("cached", 0, False), ("tail-keep", 7, False), ("checkpointed", 8, True)],
)
def test_a_mode_that_is_asked_for_is_taken(mode: Mode, kept: int, checkpointing: bool) -> None:
    found = made(10**9, mode)
    assert (found.mode, found.kept, found.checkpointing) == (mode, kept, checkpointing)


def test_a_mode_that_does_not_fit_is_not_exchanged_for_another() -> None:
    assert divide(EIGHT, weigh, 900_000, mode="direct") is None
    assert divide(EIGHT, weigh, 200_000, mode="cached") is None
    assert divide(EIGHT, weigh, 200_000) is not None


def test_one_group_of_all_rows_is_direct_or_checkpointed() -> None:
    assert made(3_000_000, sizes=(2048,)).mode == "direct"
    found = made(1_100_000, sizes=(2048,))
    assert (found.mode, found.count, found.kept) == ("checkpointed", 1, 1)
    assert divide((2048,), weigh, 1_000_000) is None


def test_a_card_passes_as_many_rows_at_once_as_it_can() -> None:
    assert made(10**9, device="cuda").micro_batch == 2048
    assert made(10**9, device="cpu").micro_batch == 256
    assert made(2_300_000, device="cuda").micro_batch == 1024


def test_rows_that_are_asked_for_pass_at_once() -> None:
    found = divide(EIGHT, weigh, 10**9, asked=700)
    assert found is not None
    assert (found.micro_batch, found.count) == (700, 4)
    assert divide(EIGHT, weigh, 500_000, mode="cached", asked=700) is None


@pytest.mark.parametrize(("images", "views", "group"), [(17, 2, 8), (16, 1, 16), (1000, 2, 512), (24, 2, "global")])
def test_sizes_are_those_of_the_groups(images: int, views: int, group: int) -> None:
    sizes = bn_groups(images, views, group, 0).sizes
    assert group_sizes(images, views, group) == sizes
    assert sum(sizes) == images * views
    assert [size for taken in packed(sizes, 20) for size in taken] == list(sizes)


def test_what_ran_out_of_memory_needs_less_each_time_and_ends() -> None:
    now, seen = (2048, 1, False), []
    while (less := smaller(EIGHT, *now)) is not None:
        micro, kept, checkpointing = less
        weight = weigh(checkpointing)
        seen.append(weight.of(micro, max(kept - 1, 0) * micro))
        assert micro % 256 == 0
        now = less
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
    assert now == (256, 0, True)
