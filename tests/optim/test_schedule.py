"""Rates against the formulas of the papers, step by step."""

import math

import pytest

from ssl_cli.config.tree import OptimSettings, ScheduleSettings
from ssl_cli.optim.schedule import mean_area, peak_rate, rate, view_size


def test_rules() -> None:
    assert peak_rate(OptimSettings(base_lr=0.3, lr_rule="linear"), 4096) == pytest.approx(4.8)
    assert peak_rate(OptimSettings(base_lr=0.075, lr_rule="sqrt"), 4096) == pytest.approx(4.8)
    assert peak_rate(OptimSettings(base_lr=0.075, lr_rule="none"), 4096) == pytest.approx(0.075)
    assert peak_rate(OptimSettings(base_lr=0.3, lr=0.5), 4096) == 0.5


def test_a_rule_gives_no_more_than_the_most() -> None:
    bounded = OptimSettings(base_lr=2e-4, lr_rule="sqrt", max_lr=6.4e-3)
    assert peak_rate(bounded, 64) == pytest.approx(1.6e-3)
    assert peak_rate(bounded, 1024) == pytest.approx(6.4e-3)
    assert peak_rate(bounded, 65_536) == 6.4e-3
    assert peak_rate(bounded.model_copy(update={"lr": 0.5}), 64) == 0.5


@pytest.mark.parametrize("warmup", [0.0, 1.5, 3.0])
def test_warmup_then_cosine_each_step(warmup: float) -> None:
    schedule = ScheduleSettings(epochs=5, warmup=warmup)
    ramp, total = round(warmup * 8), 40
    for step in range(total):
        expected = 2.0 * step / ramp if step < ramp else 1 + math.cos(math.pi * (step - ramp) / (total - ramp))
        assert rate(schedule, 2.0, step, 8) == pytest.approx(expected, abs=1e-12)


def test_moco_moves_once_an_epoch() -> None:
    schedule = ScheduleSettings(epochs=4, every="epoch")
    for step in range(40):
        expected = 0.03 * 0.5 * (1 + math.cos(math.pi * (step // 10) / 4))
        assert rate(schedule, 0.03, step, 10) == pytest.approx(expected, abs=1e-12)


def test_milestones() -> None:
    schedule = ScheduleSettings(epochs=200, kind="step", milestones=(120, 160))
    rates = [rate(schedule, 0.03, epoch * 7, 7) for epoch in (0, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])
    assert rate(ScheduleSettings(epochs=2, kind="constant"), 0.1, 13, 7) == 0.1


@pytest.mark.parametrize("size", [8, 12, 32, 48, 64, 96, 224])
@pytest.mark.parametrize("resolution", [(0.5, 0.8), (0.25, 1.0), (1.0, 0.5), (0.01, 0.01)])
def test_views_grow_to_their_size_in_few_steps(size: int, resolution: tuple[float, float]) -> None:
    first, until = resolution
    sides = [view_size(resolution, size, 200, step) for step in range(200)]
    assert sides == sorted(sides)
    assert all(side >= 8 for side in sides)
    assert {*sides[math.ceil(until * 200) :]} <= {size}
    assert len({*sides}) <= 8
    assert sides[0] <= max(first * size, 8)
    assert sides[0] > first * size - max(4, size / 8)


def test_views_of_half_the_size_grow_evenly() -> None:
    sides = [view_size((0.5, 0.8), 32, 100, step) for step in range(100)]
    assert sides == [16] * 20 + [20] * 20 + [24] * 20 + [28] * 20 + [32] * 20
    assert mean_area((0.5, 0.8), 32, 100) == sum(side**2 for side in sides) / (100 * 32**2)


def test_views_have_one_size_unless_they_grow() -> None:
    assert {view_size(None, 30, 10, step) for step in range(10)} == {30}
    assert mean_area(None, 30, 10) == 1


def test_a_single_step_has_a_size() -> None:
    assert view_size((0.5, 0.8), 32, 1, 0) == 16
    assert mean_area((0.5, 0.8), 32, 1) == 0.25
