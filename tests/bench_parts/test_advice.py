"""Advice is arithmetic: on made-up numbers it must name the right part, the right setting and the right gain."""

import pytest

from ssl_cli.bench.advice import (
    AUGMENTATION,
    LAST_RESORT,
    LOSS,
    NAMES,
    PASSES,
    READING,
    UPDATE,
    WORK,
    Option,
    Times,
    of_part,
    of_run,
    reached,
)  # fmt: skip
from ssl_cli.events import Measured

BF16 = Option("--precision bf16", PASSES, 0.5, "measured")
THREADS = Option("--threads 8", READING, 0.25, "8 processors are at hand")


def times(beside: bool = False, /, **seconds: float) -> Times:
    return Times({name: seconds.get(name, 0.0) for name in (READING, *WORK)}, beside)


def found(share: float, bound: str = "memory") -> Measured:
    return Measured(
        name="step", unit="images/s", rate=100 * share, low=0, high=0, n=5, bounds={"matrix bf16": 500.0, bound: 100.0}
    )


def test_every_part_has_a_name_and_a_last_resort() -> None:
    assert NAMES.keys() == LAST_RESORT.keys() == {READING, *WORK}


def test_shares_are_of_the_whole_the_largest_first() -> None:
    shares = times(reading=1.0, passes=6.0, augmentation=2.0, loss=1.0).shares
    assert list(shares)[:2] == [PASSES, AUGMENTATION]
    assert shares[PASSES] == pytest.approx(0.6)
    assert sum(shares.values()) == pytest.approx(1)


def test_beside_a_card_only_waiting_for_images_counts() -> None:
    hidden = times(True, reading=5.0, passes=6.0)
    assert (hidden.total, hidden.shares[READING]) == (6.0, 0.0)
    starving = times(True, reading=9.0, passes=6.0)
    assert (starving.total, starving.spent[READING]) == (9.0, 3.0)
    assert times(reading=9.0, passes=6.0).total == 15.0


def test_a_gain_is_of_the_whole_run() -> None:
    assert times(passes=8.0, reading=2.0).gain(BF16) == pytest.approx(10 / 6)
    assert times(passes=8.0, reading=2.0).gain(THREADS) == pytest.approx(10 / 8.5)
    # halving the passes of a run that waits for images gains nothing
    assert times(True, passes=5.0, reading=10.0).gain(BF16) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("seconds", "setting", "gain"),
    [
        ({"passes": 8.0, "reading": 2.0}, "--precision bf16", 10 / 6),
        ({"passes": 2.0, "reading": 8.0}, "--threads 8", 10 / 4),
        ({"passes": 4.0, "reading": 4.0, "loss": 1.0}, "--threads 8", 9 / 6),
    ],
)
def test_the_setting_that_helps_most_is_named(seconds: dict[str, float], setting: str, gain: float) -> None:
    verdict = of_run(times(**seconds), [BF16, THREADS], {})
    assert verdict.setting == setting
    assert verdict.gain == pytest.approx(gain)
    assert verdict.advice.startswith(f"{setting} would help most: about {gain:.2f} times as fast")


def test_what_gains_nothing_is_not_advised() -> None:
    slower = Option("--precision fp32", PASSES, 1.7, "measured")
    verdict = of_run(times(passes=9.0, loss=1.0), [slower], {})
    assert (verdict.setting, verdict.gain) == ("", None)
    assert "None of --precision fp32 would gain 3 %" in verdict.advice
    assert LAST_RESORT[PASSES] in verdict.advice
    assert of_run(times(loss=9.0, passes=1.0), [], {}).advice == f"What is left is {LAST_RESORT[LOSS]}."


def test_what_bounds_the_run_is_its_largest_part_and_that_part_s_nearest_ceiling() -> None:
    verdict = of_run(times(passes=9.0, optimiser=1.0), [], {PASSES: found(0.42), LOSS: found(0.9)})
    assert verdict.bound == (
        "Passes through the network take 90 % of the time; step reaches 42 % of what the memory bandwidth would allow."
    )
    assert of_run(times(optimiser=2.0), [], {}).bound == "The optimiser takes 100 % of the time."
    assert reached(found(0.004)) == "step reaches 0.4 % of what the memory bandwidth would allow."
    assert "decoding alone" in reached(found(0.5, "decode"))
    assert "bf16 matrix products" in reached(found(0.5, "matrix bf16"))
    assert reached(None) == ""


def test_a_part_alone_is_advised_of_its_own_settings() -> None:
    verdict = of_part(PASSES, [THREADS, BF16], {PASSES: found(0.5)})
    assert verdict.setting == "--precision bf16"
    assert verdict.gain == pytest.approx(2.0)
    assert of_part(UPDATE, [THREADS, BF16], {}).setting == ""
