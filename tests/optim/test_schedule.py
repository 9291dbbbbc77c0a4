"""Rates against the formulas of the papers, step by step."""

import math

import pytest

from ssl_cli.config.tree import OptimSettings, ScheduleSettings
from ssl_cli.optim.schedule import peak_rate, rate


def test_rules() -> None:
    assert peak_rate(OptimSettings(base_lr=0.3, lr_rule="linear"), 4096) == pytest.approx(4.8)
    assert peak_rate(OptimSettings(base_lr=0.075, lr_rule="sqrt"), 4096) == pytest.approx(4.8)
    assert peak_rate(OptimSettings(base_lr=0.075, lr_rule="none"), 4096) == pytest.approx(0.075)
    assert peak_rate(OptimSettings(base_lr=0.3, lr=0.5), 4096) == 0.5


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
