"""What a study concludes: which arm to take, or that it cannot tell, and what would."""

import math
import re
from dataclasses import replace

import pytest

from ssl_cli.study.advice import advice, warnings
from ssl_cli.study.book import FINISHED, Book, Result
from ssl_cli.study.summary import Summary
from tests.study.books import CLEAR, CLOSE, ROAD, TWO, book, planned, with_results

ONE = "moco-v2-b128"


def road(**values: float) -> Summary:
    """Three seeds of arms with 1 % of the labels, and with all of them."""
    arms = [replace(arm, name=arm.name.replace("1pct", "100pct"), group="all labels") for arm in ROAD.arms[1:4]]
    found = replace(ROAD, arms=(*ROAD.arms, *arms))
    for name, value in values.items():
        for seed in range(3):
            spread = 0.3 if "100pct" in name else 0.001
            numbers = {"classifier": value + spread * (seed == 1) * ("linear" in name), "queries": 200.0}
            found = found.with_result(Result(name.replace("_", "-"), seed, FINISHED, numbers=numbers))
    return Summary(found)


def test_a_clear_difference_is_advice() -> None:
    assert re.fullmatch(
        r"On these images and this machine take moco-v2-b128: \+9\.7 ± \d\.\d points of kNN \(95 % interval, 3 seeds\) "
        r"above simclr-b64\. moco-v2-b128 takes 1 min 00 s a run and 1\.0 GB, simclr-b64 takes 1 min 00 s a run and "
        r"1\.0 GB\.",
        advice(Summary(CLEAR)),
    )


def test_a_small_difference_is_none_and_says_what_would_tell() -> None:
    words = advice(Summary(CLOSE))
    assert "moco-v2-b128 and simclr-b64 are not distinguishable here: +0.5 ±" in words
    seeds = re.search(r"about (\d+) seeds would show it: --time (\d+)h --seeds (\d+)", words)
    assert seeds is not None
    assert int(seeds[1]) == int(seeds[3]) > 3
    assert int(seeds[2]) == math.ceil(15 * int(seeds[1]) / 3 / 60)  # three seeds take 15 minutes


def test_one_seed_and_no_result_are_said() -> None:
    one = with_results(TWO, {"moco-v2-b128": {0: 0.5}, "simclr-b64": {0: 0.4}})
    assert "One seed distinguishes no arms. moco-v2-b128 is +10.0 points above simclr-b64" in advice(Summary(one))
    other = with_results(TWO, {"moco-v2-b128": {0: 0.5, 1: 0.1}, "simclr-b64": {0: 0.4}})  # the better mean is not
    assert "moco-v2-b128 is +10.0 points above simclr-b64 on it" in advice(Summary(other))
    assert advice(Summary(TWO)) == "No run has ended yet."
    alone = with_results(TWO, {"simclr-b64": {0: 0.4}})
    assert "Only simclr-b64 has a result" in advice(Summary(alone))


def test_a_rivalry_compares_the_best_arm_of_each_method_that_had_all_of_the_time() -> None:
    arms = [
        planned("moco-v2-b128", "moco-v2", 128), planned("moco-v2-b512", "moco-v2", 512),
        planned("simclr-b64"), planned("simclr-b64-quarter", share=0.25),
    ]  # fmt: skip
    values = {"moco-v2-b128": 0.40, "moco-v2-b512": 0.45, "simclr-b64": 0.50, "simclr-b64-quarter": 0.6}
    found = with_results(book(*arms), {name: {s: v + 0.001 * s for s in range(3)} for name, v in values.items()})
    assert "take simclr-b64: +5.0" in advice(Summary(found))
    assert "above moco-v2-b512" in advice(Summary(found))
    ablation = with_results(
        book(*arms, study="simclr-head"), {name: {s: v + 0.001 * s for s in range(3)} for name, v in values.items()}
    )
    assert "take simclr-b64-quarter" in advice(Summary(ablation))


def test_without_labels_consistency_decides() -> None:
    found = TWO
    for arm, value in (("moco-v2-b128", 0.4), ("simclr-b64", 0.5)):
        for seed in range(2):
            numbers = {"consistency": value + seed / 100, "rankme": 9.0}
            found = found.with_result(Result(arm, seed, FINISHED, numbers=numbers))
    assert Summary(found).quality == "consistency"
    assert "take simclr-b64: +10.0 ± 0.0 points of consistency" in advice(Summary(found))


def test_costs_are_multiples_of_those_of_the_first_arm_measured_or_planned() -> None:
    first, second, third = planned("moco-b256"), planned("end-to-end-b256"), planned("end-to-end-b4096-direct")
    third = replace(third, expected={"rate": 50.0, "peak_memory": 8e9}, trained=False)
    found = book(first, second, third, study="cost", seeds=1)
    assert found.turns == [("moco-b256", 0), ("end-to-end-b256", 0)]
    for arm, seconds, peak in ((first, 10.0, 2e9), (second, 15.0, 3e9)):
        found = found.with_result(Result(arm.name, 0, FINISHED, numbers={"per_thousand": seconds, "peak_memory": peak}))
    assert advice(Summary(found)) == (
        "Against moco-b256: end-to-end-b256 1.50 times the time and 1.50 times the memory; "
        "end-to-end-b4096-direct 2.00 times the time and 4.00 times the memory (plan)."
    )
    assert Summary(found).n == 1


def test_arms_are_compared_with_those_of_the_same_labels() -> None:
    """Another group's arms, and their spread, change no interval and no advice."""
    few = {"scratch_1pct": 0.2, "linear_1pct": 0.4, "layer1_1pct": 0.6}
    alone, both = road(**few), road(**few, scratch_100pct=0.7, linear_100pct=0.8, layer1_100pct=0.95)
    assert both.quality == "classifier"
    assert both.groups == ["1 % of the labels", "all labels"]
    assert both.row("layer1-1pct").against == alone.row("layer1-1pct").against
    assert both.row("layer1-1pct").against.value == pytest.approx(0.4)  # type: ignore[union-attr]
    assert both.row("layer1-100pct").against.value == pytest.approx(0.25)  # type: ignore[union-attr]
    assert both.row("scratch-100pct").against is None
    words = advice(both)
    assert "1 % of the labels: On these images and this machine take layer1-1pct: +20.0" in words
    assert words.count("\n") == 1  # a line for each group
    assert "All labels: layer1-100pct and linear-100pct are not distinguishable here" in words


def on_a_busy_machine(found: Book) -> Summary:
    """The first arm's run of seed 1 had 60 % of the machine."""
    runs = [
        replace(run, numbers={**run.numbers, "machine": 0.6 if (run.arm, run.seed) == (ONE, 1) else 0.97})
        for run in found.results
    ]
    return Summary(replace(found, results=tuple(runs)))


def test_equal_time_on_a_busy_machine_is_not_comparable() -> None:
    busy = on_a_busy_machine(CLEAR)
    assert advice(busy).startswith(f"{ONE} and simclr-b64 are not comparable: ")
    [words] = warnings(busy)
    assert f"{ONE} had less compute" in words
    assert f"({ONE}, seed 1: 36% of what the given time is worth on an idle machine, against 58%)" in words
    assert warnings(Summary(CLEAR)) == []
    epochs = replace(CLEAR, about=replace(CLEAR.about, equal="epochs"))
    assert warnings(on_a_busy_machine(epochs)) == []  # equal epochs are equal on any machine
    assert "take moco-v2-b128" in advice(on_a_busy_machine(epochs))


def test_costs_measured_on_a_busy_machine_are_marked() -> None:
    arms = [planned(ONE, "moco-v2"), planned("two"), planned("three")]
    values = {name: {0: 0.5, 1: 0.5} for name in (ONE, "two", "three")}
    found = on_a_busy_machine(with_results(book(*arms, study="cost", seeds=2), values, per_thousand=2.0))
    assert advice(found).count("not comparable") == 2  # with the first arm, which had less of the machine
    assert ONE in warnings(found)[0]


def test_longer_on_a_busier_machine_is_the_same_compute() -> None:
    """Half of the machine for twice the time; without the longer time it is half of the compute."""
    runs = [replace(run, numbers={**run.numbers, "machine": 0.5, "seconds": 120.0}) for run in CLEAR.results[:3]]
    others = [replace(run, numbers={**run.numbers, "machine": 1.0, "seconds": 60.0}) for run in CLEAR.results[3:]]
    same = replace(CLEAR, results=(*runs, *others))
    assert warnings(Summary(same)) == []
    quarter = replace(same, arms=(same.arms[0], replace(same.arms[1], share=0.5)))  # the others had twice their part
    assert {run.arm for run in Summary(quarter).short} == {ONE}
    unknown = [replace(run, numbers={"knn": 0.4}) for run in CLEAR.results]
    assert warnings(Summary(replace(CLEAR, results=tuple(unknown)))) == []
