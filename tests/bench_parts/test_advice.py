"""Advice is arithmetic: on made-up numbers it must name the right share, the right setting and the right gain."""

import pytest

from ssl_cli.bench.advice import AUGMENTATION, LOSS, NETWORK, READING, SHARES, UPDATE, Option, advise, limit, spent
from ssl_cli.events import Measured

BF16: Option = ("--precision bf16", NETWORK, 0.5, "measured")
CACHE: Option = ("--set data.cache=ram", READING, 0.25, "measured")


def times(**seconds: float) -> dict[str, float]:
    return {name: seconds.get(name, 0.0) for name in SHARES}


def found(share: float, bound: str = "memory") -> Measured:
    return Measured(
        name="step", unit="images/s", rate=100 * share, low=0, high=0, n=5, bounds={"matrix bf16": 500.0, bound: 100.0}
    )


def test_shares_are_of_the_whole_the_largest_first() -> None:
    fields = advise(times(reading=1.0, network=6.0, augmentation=2.0, loss=1.0), [], {}, overlap=False)
    assert list(fields["shares"])[:2] == [NETWORK, AUGMENTATION]
    assert fields["shares"][NETWORK] == pytest.approx(0.6)
    assert fields["rate"] == pytest.approx(0.1)


def test_where_reading_overlaps_only_its_excess_counts() -> None:
    assert spent(times(reading=5.0, network=6.0), overlap=True)[READING] == 0.0
    assert spent(times(reading=9.0, network=6.0), overlap=True)[READING] == 3.0
    assert spent(times(reading=9.0, network=6.0), overlap=False)[READING] == 9.0


@pytest.mark.parametrize(
    ("seconds", "overlap", "setting", "gain"),
    [
        ({"network": 8.0, "reading": 2.0}, False, BF16[0], 10 / 6),
        ({"network": 2.0, "reading": 8.0}, False, CACHE[0], 10 / 4),
        ({"network": 4.0, "reading": 4.0, "loss": 1.0}, False, CACHE[0], 9 / 6),
        ({"network": 5.0, "reading": 10.0}, True, CACHE[0], 2.0),  # a faster network would wait for images
    ],
)
def test_the_setting_that_helps_most_is_named(
    seconds: dict[str, float], overlap: bool, setting: str, gain: float
) -> None:
    fields = advise(times(**seconds), [BF16, CACHE], {}, overlap=overlap)
    assert fields["setting"] == setting
    assert fields["gain"] == pytest.approx(gain)
    assert fields["advice"].startswith(f"{setting} would help most: about {gain:.2f} times as fast")


def test_what_gains_nothing_is_not_advised() -> None:
    slower = ("--precision fp32", NETWORK, 1.7, "measured")
    fields = advise(times(network=9.0, loss=1.0), [slower], {}, overlap=False)
    assert "setting" not in fields
    assert "None of --precision fp32 would gain 3 %" in fields["advice"]
    assert SHARES[NETWORK] in fields["advice"]
    alone = advise(times(loss=9.0, network=1.0), [], {}, overlap=False)
    assert alone["advice"] == f"What is left is {SHARES[LOSS]}."


def test_what_bounds_the_run_is_its_largest_share_and_that_share_s_lowest_limit() -> None:
    measured = {NETWORK: found(0.42), LOSS: found(0.9)}
    fields = advise(times(network=9.0, optimiser=1.0), [], measured, overlap=False)
    expected = "Network takes 90 % of the time; step reaches 42 % of what the memory bandwidth would allow"
    assert fields["bound"] == expected
    assert advise(times(optimiser=2.0), [], {}, overlap=False)["bound"] == "Optimiser takes 100 % of the time"
    assert limit(found(0.004)) == "step reaches 0.4 % of what the memory bandwidth would allow"
    assert "decoding alone" in limit(found(0.5, "decode"))
    assert "matrix bf16 products" in limit(found(0.5, "matrix bf16"))
    assert limit(None) == ""


def test_one_share_alone_has_no_shares() -> None:
    fields = advise({NETWORK: 2.0}, [CACHE, BF16], {NETWORK: found(0.5)}, overlap=False)
    assert (fields["setting"], fields["gain"]) == (BF16[0], pytest.approx(2.0))
    assert fields["bound"] == "step reaches 50 % of what the memory bandwidth would allow"
    assert "shares" not in fields
    assert "setting" not in advise({UPDATE: 1.0}, [CACHE, BF16], {}, overlap=False)
