"""Rows, fronts and differences of a study."""

import pytest

from ssl_cli.study.book import FINISHED, Result
from ssl_cli.study.summary import Summary
from tests.study.books import CLEAR, TWO, with_results


def test_an_arm_that_diverged_is_a_row_and_is_not_compared() -> None:
    failed = CLEAR.with_result(Result("simclr-b64", 3, "diverged", "not finite"))
    rows = Summary(failed).rows
    assert [row.failed for row in rows] == ["", "1 diverged"]
    assert rows[1].means["knn"].n == 3
    assert rows[1].against is None


def test_runs_that_are_missing_leave_their_seed_out() -> None:
    under_way = with_results(TWO, {"moco-v2-b128": {0: 0.5, 1: 0.51, 2: 0.52}, "simclr-b64": {0: 0.4, 1: 0.42}})
    found = Summary(under_way).rows[1].against
    assert found is not None
    assert found.n == 2
    assert found.value == pytest.approx(-0.095)


def test_fronts_are_of_means_and_costs() -> None:
    found = TWO
    for arm, knn, peak in (("moco-v2-b128", 0.4, 1e9), ("simclr-b64", 0.5, 2e9)):
        numbers = {"knn": knn, "linear": knn, "seconds": 60.0, "peak_memory": peak}
        found = found.with_result(Result(arm, 0, FINISHED, numbers=numbers))
    assert Summary(found).front("peak_memory", "knn") == ["moco-v2-b128", "simclr-b64"]
    assert Summary(found).front("seconds", "knn") == ["simclr-b64"]
    assert Summary(found).front("batch", "linear") == ["simclr-b64"]
