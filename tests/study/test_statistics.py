"""Intervals of a study against scipy's paired t-test, the textbook's analysis of variance, and chance itself."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import f_oneway, studentized_range, ttest_rel

from ssl_cli.study.statistics import (
    Difference,
    Short,
    complete,
    difference,
    front,
    half_width,
    mean,
    residual_variance,
    short_of_compute,
)

ONE, OTHER = [0.41, 0.45, 0.40, 0.44], [0.40, 0.43, 0.41, 0.42]


def by_seed(**arms: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(values)) for name, values in arms.items()}


def test_a_mean_has_its_standard_error() -> None:
    found = mean([0.1, 0.2, 0.6])
    assert found.value == pytest.approx(0.3)
    assert found.n == 3
    assert found.error == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3))
    assert mean([0.5]).error is None


def test_the_interval_of_two_arms_is_the_paired_t_interval() -> None:
    found = difference(by_seed(a=ONE, b=OTHER), "a", "b")
    ends = ttest_rel(ONE, OTHER).confidence_interval(0.95)
    assert found is not None
    assert found.half is not None
    assert [found.value - found.half, found.value + found.half] == pytest.approx([ends.low, ends.high])
    assert found.is_known == (not ends.low < 0 < ends.high)


def test_what_seeds_share_is_left_out() -> None:
    """The same arms on easier and harder images: a seed's own level moves no interval."""
    levels = [0.0, 0.3, -0.2, 0.1]
    shifted = {
        name: [x + level for x, level in zip(row, levels, strict=True)] for name, row in (("a", ONE), ("b", OTHER))
    }
    found, plain = difference(by_seed(**shifted), "a", "b"), difference(by_seed(a=ONE, b=OTHER), "a", "b")
    assert found is not None
    assert plain is not None
    assert found.half is not None
    assert found.half == pytest.approx(plain.half)


def test_the_variance_is_that_of_the_analysis_of_variance_of_blocks() -> None:
    table = np.random.default_rng(0).normal(size=(4, 5))
    arms, seeds = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    total = ((table - table.mean()) ** 2).sum()
    explained = 5 * ((arms - table.mean()) ** 2).sum() + 4 * ((seeds - table.mean()) ** 2).sum()
    assert residual_variance(table.tolist()) == pytest.approx((total - explained) / (3 * 4))
    q = studentized_range.ppf(0.95, 4, 12)
    assert half_width(2.0, 4, 5) == pytest.approx(q * math.sqrt(2.0 / 5))


def test_where_no_arm_is_better_one_study_in_twenty_says_otherwise() -> None:
    """All pairs at once: 2,000 studies of five equal arms and four seeds, 5 % of which may find a difference."""
    draws = np.random.default_rng(1).normal(size=(2000, 5, 4)) + np.random.default_rng(2).normal(size=(2000, 1, 4))
    residual = draws - draws.mean(2, keepdims=True) - draws.mean(1, keepdims=True) + draws.mean((1, 2), keepdims=True)
    variance = (residual**2).sum((1, 2)) / (4 * 3)
    halves = half_width(1.0, 5, 4) * np.sqrt(variance)
    means = draws.mean(2)
    wrong = (means.max(1) - means.min(1) > halves).mean()
    assert 0.035 < wrong < 0.065
    one = by_seed(**{f"arm{k}": draws[0, k].tolist() for k in range(5)})
    largest = max(abs(found.value) for a, b in combinations(one, 2) if (found := difference(one, a, b)))
    assert largest == pytest.approx(means[0].max() - means[0].min())
    assert f_oneway(*draws[0]).pvalue > 0  # and none of this needs arms of equal means


def test_seeds_that_an_arm_lacks_are_left_out() -> None:
    values = {"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {1: 0.5, 2: 0.4}, "none": dict[int, float]()}
    assert complete(values) == {"a": [0.2, 0.3], "b": [0.5, 0.4]}
    found = difference(values, "b", "a")
    assert found is not None
    assert found.n == 2
    assert found.value == pytest.approx(0.2)
    assert difference(values, "none", "a") is None
    assert difference({"a": {0: 1.0}, "b": {1: 1.0}}, "a", "b") is None
    assert complete({}) == {}


def test_one_seed_tells_nothing() -> None:
    found = difference({"a": {0: 0.9}, "b": {0: 0.1}}, "a", "b")
    assert found is not None
    assert (found.half, found.is_known, found.seeds_needed) == (None, False, None)


def test_the_seeds_that_would_tell_are_the_fewest() -> None:
    found = Difference(0.01, 3, half=0.03, variance=0.0001, arms=2)
    needed = found.seeds_needed
    assert needed is not None
    assert half_width(0.0001, 2, needed) < 0.01 <= half_width(0.0001, 2, needed - 1)
    assert Difference(0.0001, 3, half=0.03, variance=0.0001, arms=2).seeds_needed is None
    assert Difference(0.0, 3, half=0.03, variance=0.0001).seeds_needed is None


def test_the_front_is_what_nothing_cheaper_reaches() -> None:
    points = {"dear": (9.0, 0.5), "worse": (5.0, 0.2), "cheap": (1.0, 0.3), "same": (9.0, 0.5), "better": (4.0, 0.4)}
    assert front(points) == ["cheap", "better", "dear"]
    for name, (cost, value) in points.items():
        beaten = any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points.values())
        assert (name in front(points)) == (not beaten and name != "same")
    assert front({}) == []


@pytest.mark.parametrize(
    ("shares", "short"),
    [
        ({"a": {0: 1.0}, "b": {0: 0.86}}, []),
        ({"a": {0: 1.0}, "b": {0: 0.84}}, [("b", 0, 0.84, 1.0)]),
        ({"a": {0: 0.5}, "b": {0: 0.43}}, []),  # a part of the larger one
        ({"a": {0: 0.5}, "b": {0: 0.42}}, [("b", 0, 0.42, 0.5)]),
        ({"a": {0: 1.0, 1: 0.4}, "b": {0: 0.98, 1: 0.41}}, []),  # a seed for which the machine was busy all along
        ({"a": {0: 1.0, 1: 0.5}, "b": {0: 0.5, 1: 1.0}}, [("a", 1, 0.5, 1.0), ("b", 0, 0.5, 1.0)]),
        ({"a": {0: 1.0}, "b": {1: 0.2}, "c": {}}, []),  # no other run of the seed
        ({"a": {0: 0.0}, "b": {0: 0.0}}, []),
        ({}, []),
    ],
)
def test_runs_that_had_less_compute_are_found(
    shares: dict[str, dict[int, float]], short: list[tuple[str, int, float, float]]
) -> None:
    assert short_of_compute(shares) == [Short(*values) for values in short]
