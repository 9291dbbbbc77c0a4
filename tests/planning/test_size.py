"""The size of a run: cases of images, machine and time, and what holds for all of them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_cli.config.sources import settle
from ssl_cli.config.tree import Fitted
from ssl_cli.planning.network import network_cost
from ssl_cli.planning.size import (
    FEWEST_STEPS,
    LADDER,
    MOST_EPOCHS,
    Machine,
    Size,
    Work,
    choose,
    fitted,
    given_in,
    warn_of_few,
)

LAPTOP = Machine(70e9, 3e9)
"""Two AVX2 cores."""
SERVER = Machine(1e12, 3e9)
SMALL_GPU = Machine(3e12, 1.6e9, 2)
GPU = Machine(130e12, 126e9, 2)
MINUTE, HOUR = 60.0, 3600.0

CASES: dict[str, tuple[int, float, Machine, float, tuple[str, float, int, int]]] = {
    "200 photographs, laptop, default": (200, 480, LAPTOP, 10 * MINUTE, ("resnet18", 0.5, 96, 64)),
    "200 photographs, laptop, an hour": (200, 480, LAPTOP, HOUR, ("resnet18", 0.5, 128, 64)),
    "200 photographs, GPU": (200, 480, GPU, 10 * MINUTE, ("resnet18", 0.5, 128, 64)),
    "2,000 photographs, laptop": (2000, 480, LAPTOP, 10 * MINUTE, ("resnet18", 0.25, 32, 64)),
    "2,000 photographs, server": (2000, 480, SERVER, 10 * MINUTE, ("resnet18", 0.5, 128, 128)),
    "10,000 CIFAR images, laptop": (10_000, 32, LAPTOP, HOUR, ("resnet18", 0.25, 32, 256)),
    "50,000 CIFAR images, server": (50_000, 32, SERVER, HOUR, ("resnet18", 0.5, 32, 256)),
    "50,000 CIFAR images, GPU": (50_000, 32, GPU, HOUR, ("resnet50", 1.0, 32, 256)),
    "1.3 million photographs, GPU, a day": (1_281_167, 400, GPU, 24 * HOUR, ("resnet50", 1.0, 224, 256)),
    "5,000 of 96 pixels, server": (5000, 96, SERVER, 25 * MINUTE, ("resnet18", 0.5, 96, 256)),
    "5,000 of 100 pixels, GPU": (5000, 100, GPU, HOUR, ("resnet18", 0.5, 96, 256)),
    "5,000 of 80 pixels, GPU of 2 GB": (5000, 80, SMALL_GPU, 25 * MINUTE, ("resnet18", 0.25, 32, 256)),
    "2,000 of 8,000 x 6,000, GPU of 2 GB": (2000, 6000, SMALL_GPU, 10 * MINUTE, ("resnet18", 0.75, 128, 128)),
    "1,000 of 8 x 8": (1000, 8, LAPTOP, 10 * MINUTE, ("resnet18", 0.5, 8, 64)),
    "60,000 of 28 pixels": (60_000, 28, LAPTOP, HOUR, ("resnet18", 0.25, 32, 256)),
    "50 images": (50, 300, LAPTOP, 10 * MINUTE, ("resnet18", 0.5, 128, 16)),
    "10 images": (10, 300, LAPTOP, 10 * MINUTE, ("resnet18", 0.5, 128, 4)),
    "2 images": (2, 300, LAPTOP, 10 * MINUTE, ("resnet18", 0.5, 128, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_suits_images_machine_and_time(case: str) -> None:
    images, side, machine, seconds, expected = CASES[case]
    found = choose(Work(images, side, {}), machine, seconds)
    assert (found.backbone, found.width, found.size, found.batch) == expected


def test_a_time_too_short_for_one_epoch_takes_the_fewest_steps_on_the_smallest_network() -> None:
    found = choose(Work(1_000_000, 480, {}), LAPTOP, 60.0)
    assert (found.network, found.size) == ("resnet18, width 0.25", 32)
    assert 0 < found.epochs < 0.1
    assert round(found.epochs * (1_000_000 // found.batch)) >= FEWEST_STEPS


def test_what_is_given_stays() -> None:
    given: dict[Fitted, Any] = {"model.backbone": "resnet34", "run.batch": 150, "data.size": 48, "schedule.epochs": 3}
    found = choose(Work(200, 480, given), LAPTOP, 600.0)
    assert (found.backbone, found.size, found.batch, found.epochs) == ("resnet34", 48, 150, 3)
    wide = choose(Work(200, 480, {"model.width": 2.0}), LAPTOP, 600.0)
    assert wide.width == 2.0
    assert choose(Work(200, 480, {"model.backbone": "timm:vit_tiny"}), LAPTOP, 600.0).size == 224


def test_given_epochs_leave_the_network_to_the_time() -> None:
    """Fewer epochs than the set asks for allow a larger network."""
    few = choose(Work(10_000, 480, {"schedule.epochs": 1}), SERVER, 600.0)
    many = choose(Work(10_000, 480, {"schedule.epochs": 100}), SERVER, 600.0)
    assert _cost(few) > _cost(many)
    assert (few.epochs, many.epochs) == (1, 100)


machines = st.builds(Machine, st.floats(1e9, 1e15), st.floats(1e8, 1e12), st.sampled_from((2, 4)))
sides = st.floats(1, 256) | st.floats(1, 10_000)
works = st.builds(Work, st.integers(2, 10**7), sides, st.just({}), st.integers(2, 4096))


@given(works, machines, st.floats(1, 1e6))
def test_batch_and_epochs_stay_within_their_limits(work: Work, machine: Machine, seconds: float) -> None:
    found = choose(work, machine, seconds)
    assert found.batch <= max(work.images // 2, 2)
    assert found.batch & (found.batch - 1) == 0
    steps = found.epochs * (work.images // found.batch)
    assert steps >= FEWEST_STEPS - 1e-6
    assert found.epochs <= MOST_EPOCHS or steps <= FEWEST_STEPS + 1e-6
    assert 8 <= found.size <= max(work.side, 32)


@given(works, machines, st.floats(1, 1e6), st.floats(1, 100))
def test_more_time_never_gives_a_smaller_network(work: Work, machine: Machine, seconds: float, times: float) -> None:
    less, more = choose(work, machine, seconds), choose(work, machine, seconds * times)
    assert _cost(more) >= _cost(less)
    if _cost(more) == _cost(less):
        assert more.epochs >= less.epochs


@given(works, machines, st.floats(1, 1e6), st.floats(1, 100))
def test_a_faster_machine_is_as_good_as_more_time(work: Work, machine: Machine, seconds: float, times: float) -> None:
    faster = Machine(machine.flops * times, machine.memory, machine.number)
    assert _cost(choose(work, faster, seconds)) >= _cost(choose(work, machine, seconds))


def _cost(size: Size) -> float:
    return network_cost(size.backbone, size.width, size.size).flop


def test_the_ladder_rises() -> None:
    costs = [network_cost(*rung).flop for rung in LADDER]
    assert costs == sorted(costs)
    assert [rung[2] for rung in LADDER] == sorted(rung[2] for rung in LADDER)


def test_few_images_are_warned_of() -> None:
    assert "200 images are few" in warn_of_few(200)[0]
    assert warn_of_few(1000) == []


def test_open_settings_alone_take_values() -> None:
    settings = settle({"data": {"source": "cifar10"}, "run": {"batch": 64}}, env={}, user_file=Path("none")).settings
    assert given_in(settings) == {"run.batch": 64}
    values: dict[Fitted, Any] = Size("resnet34", 0.5, 64, 128, 2.5).values
    found = fitted(settings, values)
    assert (found.model.backbone, found.data.size, found.schedule.epochs) == ("resnet34", 64, 2.5)
    assert found.run.batch == 64
    assert found.run.fit == settings.run.fit
    with pytest.raises(ValueError, match="backbone"):
        fitted(settings, {"model.backbone": "resnet19"})
