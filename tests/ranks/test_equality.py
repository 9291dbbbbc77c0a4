"""Several ranks equal one process on the whole batch: weights, statistics, momenta, queue, bank, loss."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.ranks.processes import Case, Found, cases, five_steps, train_as_ranks

Trained = Callable[[int], list[dict[Case, Found]]]


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest) -> Trained:
    """The final states of each rank in the cases selected here; the ranks are started once for each world size."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {(found["case"], found["size"]) for found in params if {"case", "size"} <= found.keys()}
    return functools.cache(lambda size: train_as_ranks(size, [case for case in cases() if (case, size) in wanted]))


@functools.cache
def one_process(method: str, groups: str, way: str) -> Found:
    return five_steps(method, groups, way)


PAIRS = {
    ("simclr", "groups of 8", "direct"),
    ("moco-v2", "groups of 8", "cached"),
    ("instdisc", "groups of 8", "direct"),
    ("invaspread", "groups of 8", "cached"),
    ("simclr-v2", "one group", "direct"),
    ("moco-v2, by group", "groups of 8", "cached"),
}
"""Each method but MoCo v1 once, and each kind of groups; all others, and three ranks, are slow."""


def _marked(case: Case, size: int) -> Any:
    quick = size == 2 and case in PAIRS
    return pytest.param(case, size, id=f"{', '.join(case)}-{size}", marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("case", "size"), [_marked(case, size) for size in (2, 3) for case in cases()])
def test_ranks_equal_one_process(trained: Trained, case: Case, size: int) -> None:
    one, ranks = one_process(*case), [found[case] for found in trained(size)]
    losses = one["losses"]
    assert losses.max() - losses.min() > 0.02  # something moved, or equality would say little
    for found in ranks:
        assert found.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(found[name], value, atol=1e-9, rtol=0, equal_nan=True, msg=name)
            # and each other to the last bit, or they would drift apart in a long run
            assert torch.equal(found[name].nan_to_num(), ranks[0][name].nan_to_num()), name


def test_the_default_pairs_are_cases() -> None:
    assert set(cases()) >= PAIRS
