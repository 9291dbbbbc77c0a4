"""The learning rate of every step of a run against plain loops."""

from typing import Any, Literal

import pytest

from ssl_cli.config.tree import OptimSettings, ScheduleSettings
from ssl_cli.optim.schedule import peak_rate, rate
from tests.oracle import paper
from tests.oracle.agree import agree


@pytest.mark.parametrize("rule", ["linear", "sqrt", "none"])
@pytest.mark.parametrize("base", [0.03, 0.075, 0.3])
def test_rules(rule: Literal["linear", "sqrt", "none"], base: float) -> None:
    for batch in (2, 100, 256, 512, 4096, 65536):
        found = peak_rate(OptimSettings(base_lr=base, lr_rule=rule), batch)
        agree(f"learning rate: {rule} rule", found, paper.peak_rate(rule, base, batch))


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("epochs", [1, 5, 12])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.5, 3.0, 20.0])
@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [("cosine", {}), ("constant", {}), ("step", {"milestones": (2, 4)}), ("step", {"milestones": (3,), "gamma": 0.5})],
)
def test_schedules(kind: str, words: dict[str, Any], every: str, warmup: float, epochs: int, steps: int) -> None:
    schedule = ScheduleSettings(epochs=epochs, warmup=warmup, kind=kind, every=every, **words)
    found = [rate(schedule, 0.7, step, steps) for step in range(epochs * steps)]
    for now, wanted in zip(found, paper.rates(0.7, epochs, steps, warmup, kind, every, **words), strict=True):
        agree(f"learning rate: {kind}, by {every}", now, wanted)
