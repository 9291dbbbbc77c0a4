"""Micro-batch plans: the one with the fewest recomputed rows that fits, its memory, and how it is divided further."""

import subprocess
import sys
from itertools import pairwise

import pytest

from ssl_cli.nn.activations import ActivationBytes
from ssl_cli.nn.group_sizes import pack
from ssl_cli.planning.divide import MicroBatchPlan, Mode, divide, divide_further

PLAIN = ActivationBytes(saved=1000, peak=1200, fixed=50)
CHECKPOINTED = ActivationBytes(saved=200, peak=500, fixed=50)
EIGHT = (256,) * 8


def activations(checkpointing: bool) -> ActivationBytes:
    return CHECKPOINTED if checkpointing else PLAIN


def made(room: int, mode: Mode = "auto", sizes: tuple[int, ...] = EIGHT, device: str = "cpu") -> MicroBatchPlan:
    found = divide(sizes, activations, room, mode=mode, device=device)
    assert found is not None
    return found


def test_more_memory_means_less_recomputation_and_is_never_exceeded() -> None:
    rooms = [150_000, 200_000, 400_000, 600_000, 900_000, 1_500_000, 2_100_000, 5_000_000]
    found = [made(room) for room in rooms]
    assert all(micro_batches.peak <= room for micro_batches, room in zip(found, rooms, strict=True))
    assert all(later.recomputed <= earlier.recomputed for earlier, later in pairwise(found))
    modes = [micro_batches.mode for micro_batches in found]
    assert (modes[0], modes[-1]) == ("checkpointed", "direct")
    assert {"checkpointed", "tail-keep", "direct"} == set(modes)
    assert found[-1].recomputed == 0


def test_rows_of_kept_graphs_are_not_recomputed() -> None:
    found = made(900_000)
    assert found.mode == "tail-keep"
    assert found.kept_graphs == 1 + (900_000 - PLAIN.at(256)) // (1000 * 256)
    assert found.recomputed == pytest.approx(1 - found.kept_graphs / 8)
    assert found.peak == PLAIN.at(256, (found.kept_graphs - 1) * 256)


@pytest.mark.parametrize(
    ("mode", "kept", "checkpointing"),
    [("direct", 8, False), ("cached", 0, False), ("tail-keep", 7, False), ("checkpointed", 8, True)],
)
def test_a_mode_that_is_asked_for_is_taken(mode: Mode, kept: int, checkpointing: bool) -> None:
    found = made(10**9, mode)
    assert (found.mode, found.kept_graphs, found.checkpointing) == (mode, kept, checkpointing)


def test_a_mode_that_does_not_fit_is_not_replaced_by_another() -> None:
    assert divide(EIGHT, activations, 900_000, mode="direct") is None
    assert divide(EIGHT, activations, 200_000, mode="cached") is None
    assert divide(EIGHT, activations, 200_000) is not None


def test_one_group_of_all_rows_is_direct_or_checkpointed() -> None:
    assert made(3_000_000, sizes=(2048,)).mode == "direct"
    found = made(1_100_000, sizes=(2048,))
    assert (found.mode, found.count, found.kept_graphs) == ("checkpointed", 1, 1)
    assert divide((2048,), activations, 1_000_000) is None


def test_on_a_gpu_all_rows_are_one_micro_batch_where_they_fit() -> None:
    assert made(10**9, device="cuda").micro_batch == 2048
    assert made(10**9, device="cpu").micro_batch == 256
    assert made(2_300_000, device="cuda").micro_batch == 1024


def test_a_micro_batch_that_is_asked_for_is_taken() -> None:
    found = divide(EIGHT, activations, 10**9, micro_batch=700)
    assert found is not None
    assert (found.micro_batch, found.count) == (700, 4)
    assert divide(EIGHT, activations, 500_000, mode="cached", micro_batch=700) is None


def test_groups_are_packed_whole_and_in_order() -> None:
    assert list(pack((8, 8, 8), 16)) == [(8, 8), (8,)]
    assert list(pack((5, 30, 5, 5), 12)) == [(5,), (30,), (5, 5)]
    assert list(pack((), 12)) == []


def test_dividing_needs_no_torch() -> None:
    code = "import sys, ssl_cli.planning.divide; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dividing_further_needs_less_memory_each_time_and_ends() -> None:
    now, seen = (2048, 1, False), []
    while (less := divide_further(EIGHT, *now)) is not None:
        micro, kept, checkpointing = less
        weight = activations(checkpointing)
        seen.append(weight.at(micro, max(kept - 1, 0) * micro))
        assert micro % 256 == 0
        now = less
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
    assert now == (256, 0, True)
