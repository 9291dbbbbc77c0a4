"""Arms take turns, warm-up is left out, and a rate is what was done by the time it took."""

import time
from collections.abc import Callable

import pytest
import torch

from ssl_cli.bench import timing
from ssl_cli.bench.timing import Arm, Rates, alternate

CPU = torch.device("cpu")


def test_arms_alternate_the_other_way_about_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SAMPLE", 0.0)
    calls: list[str] = []
    rates = alternate({name: Arm(1, lambda name=name: calls.append(name)) for name in "abc"}, CPU)  # type: ignore[misc]
    assert {len(rate.values) for rate in rates.values()} == {timing.REPEATS}
    assert calls[:6] == list("aabbcc")  # two calls each before anything counts
    assert calls[6:15] == list("abccbaabc")


class Clock:
    """Time that passes only when a call says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.calls = 100.0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def takes(self, seconds: float) -> Callable[[], None]:
        """A call of so many seconds."""

        def call() -> None:
            self.now += seconds
            self.calls += 1

        return call


def test_short_calls_are_repeated_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    (rate,) = alternate({"a": Arm(10, clock.takes(timing.SAMPLE / 4.5))}, CPU).values()
    assert clock.calls == 2 + 5 * timing.REPEATS
    assert rate.values == pytest.approx([45 / timing.SAMPLE] * timing.REPEATS)


def test_long_rounds_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    rates = alternate({"a": Arm(1, clock.takes(1.2)), "b": Arm(6, clock.takes(1.5))}, CPU)
    assert clock.calls == 2 * (2 + timing.FEWEST)
    assert timing.FEWEST >= 5
    assert rates["b"].values == pytest.approx([4.0] * timing.FEWEST)


def test_median_quartiles_and_the_event() -> None:
    rates = Rates((5.0, 1.0, 2.0, 4.0, 3.0))
    found = rates.measured(
        "x", "images/s", bounds={"memory": 6.0, "decode": 12.0}, reference=Rates((1.5,)), against="y"
    )
    assert (found.rate, found.low, found.high, found.n) == (3.0, 2.0, 4.0, 5)
    assert (found.bound, found.share, found.reference, found.against) == ("memory", 0.5, 1.5, "y")
    alone = rates.measured("x", "B/s", machine=True, against="y")
    assert (alone.bound, alone.share, alone.reference, alone.against, alone.machine) == ("", None, None, "", True)
