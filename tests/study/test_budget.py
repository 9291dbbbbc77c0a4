"""A study's time is divided over its arms and seeds; one that is too short says what it is enough for."""

from collections import Counter

import pytest

from ssl_cli.errors import UsageError
from ssl_cli.study.budget import Cost, divide, needed, order, possible, starts

COSTS = [Cost("a", 1.0, 10.0, 5.0), Cost("b", 0.25, 10.0, 5.0), Cost("c", 2.0, 20.0, 5.0)]


def test_all_runs_together_take_the_time() -> None:
    unit = divide(1000.0, COSTS, 2)
    assert 2 * sum(cost.overhead + unit * cost.weight for cost in COSTS) == pytest.approx(1000)
    assert COSTS[1].seconds(unit) == pytest.approx(5 + unit / 4)


def test_the_least_time_is_enough_and_a_second_less_is_not() -> None:
    least = needed(COSTS, 3)
    assert least == pytest.approx(3 * (15 + 40 * 3.25))  # b trains ten seconds where a trains forty
    assert divide(least, COSTS, 3) == pytest.approx(40)
    with pytest.raises(UsageError, match="too short for 9 runs") as caught:
        divide(least - 1, COSTS, 3)
    assert caught.value.hint.startswith("In ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (290.0, "--seeds 2, or --arms a,b; --time 479s"),  # two seeds of all: 290 s; all seeds of a and b: 180 s
        (200.0, "--seeds 1, or --arms a,b; --time"),
        (70.0, "--arms a,b --seeds 1; --time"),
        (5.0, "Pass more: --time 479s is enough for all."),
    ],
)
def test_a_time_that_is_too_short_says_what_it_could_do(seconds: float, words: str) -> None:
    assert words in possible(seconds, COSTS, 3)


def test_what_is_suggested_is_enough() -> None:
    divide(290.0, COSTS, 2)
    divide(180.0, COSTS[:2], 3)
    divide(70.0, COSTS[:2], 1)


def test_arms_take_turns_and_none_is_always_first() -> None:
    turns = order(["a", "b", "c"], [4, 5, 6])
    assert turns[:3] == [("a", 4), ("b", 4), ("c", 4)]
    assert Counter(turns) == Counter((arm, seed) for arm in "abc" for seed in (4, 5, 6))
    assert [turns[place][0] for place in (0, 3, 6)] == ["a", "b", "c"]
    assert [seed for _, seed in turns] == sorted(seed for _, seed in turns)


def test_runs_that_have_enough_leave_the_rest_to_the_others() -> None:
    costs = [*COSTS, Cost("few", 4.0, 1.0, 5.0, most=20.0), Cost("none", 0.0, 0.0, 5.0)]
    unit = divide(1000.0, costs, 2)
    assert 2 * sum(cost.seconds(unit) for cost in costs) == pytest.approx(1000)
    assert costs[3].seconds(unit) == 25
    assert unit == pytest.approx((500 - 25 - 20) / 3.25)
    short = divide(needed(costs, 1), costs, 1)  # at which none has enough
    assert sum(cost.seconds(short) for cost in costs) == pytest.approx(needed(costs, 1))


def test_an_arm_comes_after_the_one_whose_run_it_starts_from() -> None:
    start = {"b": "a", "d": "b", "e": "c"}
    turns = order(["a", "b", "c", "d", "e"], [0, 1, 2, 3], start)
    assert Counter(turns) == Counter((arm, seed) for arm in "abcde" for seed in range(4))
    assert all(turns.index((start[arm], seed)) < turns.index((arm, seed)) for arm in start for seed in range(4))
    assert [arm for arm, seed in turns if seed == 3] == ["a", "b", "d", "c", "e"]  # the turn of d
    assert starts("d", start) == ["b", "a"]
