"""Timing in turns until a deadline, on a clock that moves only when a call says so; the machine's own limits."""

import pytest
import torch

from ssl_cli.bench import machine
from ssl_cli.bench.machine import Arm, Machine, measured
from tests.bench_parts.toy import Clock, quick

CPU = torch.device("cpu")


def test_arms_take_turns_in_reversed_order_every_other_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SAMPLE", 0.0)
    calls: list[str] = []
    rates = Machine(CPU, 1e9).alternate({name: Arm(1, lambda name=name: calls.append(name)) for name in "abc"})  # type: ignore[misc]
    assert {len(rate) for rate in rates.values()} == {machine.ROUNDS}
    assert calls[:6] == list("aabbcc")  # warm-up
    assert calls[6:15] == list("abccbaabc")


def test_short_calls_are_repeated_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    rates = Machine(CPU, 1e9).alternate({"a": Arm(10, clock.takes(machine.SAMPLE / 4.5))})
    assert clock.calls == 2 + 5 * machine.ROUNDS
    assert rates["a"] == pytest.approx([45 / machine.SAMPLE] * machine.ROUNDS)


@pytest.mark.parametrize(
    ("seconds", "arms", "rounds", "calls"),
    [
        (1000, "ab", machine.ROUNDS, 2 * (2 + machine.ROUNDS)),
        (26, "ab", 3, 10),  # 10 s of warm-up, then rounds of 5 s as long as they end in time
        (4.5, "ab", 1, 3),  # both warm-up calls of one arm, one of the other: their rates are those of these calls
        (1, "a", 1, 1),  # the first arm alone
    ],
)
def test_no_round_starts_that_would_end_after_the_deadline(
    seconds: float, arms: str, rounds: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    rates = Machine(CPU, clock.now + seconds).alternate({"a": Arm(4, clock.takes(2)), "b": Arm(6, clock.takes(3))})
    assert clock.calls == calls
    assert rates == {name: (2.0,) * rounds for name in arms}


def test_median_quartiles_and_the_event() -> None:
    found = measured("x", "images/s", (5.0, 1.0, 2.0, 4.0, 3.0), bounds={"memory": 6.0, "decode": 12.0})
    assert (found.rate, found.low, found.high, found.n) == (3.0, 2.0, 4.0, 5)
    assert (found.bound, found.share) == ("memory", 0.5)
    once = measured("x", "B/s", (2.0,), machine=True)
    assert (once.rate, once.low, once.high, once.n, once.machine) == (2.0, 2.0, 2.0, 1, True)


def test_a_limit_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    this = Machine(CPU, 1e9)
    assert this.matrix("fp32") == this.matrix("fp32") > 0
    assert this.memory() == this.memory() > 0
    assert [one.name for one in this.found] == ["matrix fp32", "memory copy", "memory triad"]
    assert all(one.machine and one.low <= one.rate <= one.high for one in this.found)
    assert this.memory() == max(one.rate for one in this.found[1:])


def test_the_work_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of N x N matrices is 2 N^3 operations; a copy moves two arrays, a triad three."""
    quick(monkeypatch)
    seen: dict[str, Arm] = {}

    def alternate(self: Machine, arms: dict[str, Arm]) -> dict[str, tuple[float, ...]]:
        seen.update(arms)
        return {name: (arm.work,) for name, arm in arms.items()}

    monkeypatch.setattr(Machine, "alternate", alternate)
    this = Machine(CPU, 1e9)
    assert this.matrix("bf16") == 2 * 64**3
    product = seen["matrix bf16"].call()
    assert isinstance(product, torch.Tensor)
    assert (product.shape, product.dtype) == ((64, 64), torch.bfloat16)
    assert this.memory() == 3 * 4096
    assert seen["memory copy"].work == 2 * 4096
    triad = seen["memory triad"].call()
    assert isinstance(triad, torch.Tensor)
    assert (triad.numel() * 4, float(triad[0])) == (4096, 4.0)
