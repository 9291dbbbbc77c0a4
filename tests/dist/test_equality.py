"""Processes that share a step equal one process on the whole batch: weights, statistics, momenta, queue, bank, loss."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.dist.processes import Case, Found, cases, five_steps, together

Shared = Callable[[int], list[dict[Case, Found]]]


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Shared:
    """What each process finds in the cases that are asked for here; they are started once for each number of them."""
    params = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {(spec.params["case"], spec.params["size"]) for spec in params if spec and "case" in spec.params}
    return functools.cache(lambda size: together(size, [case for case in cases() if (case, size) in wanted]))


@functools.cache
def alone(method: str, groups: str, way: str) -> Found:
    return five_steps(method, groups, way)


QUICK = {"simclr", "moco-v2", "instdisc"}


def _marked(case: Case, size: int) -> Any:
    """A case; most of those of three processes, which two cores do slowly, are slow, and most of one group."""
    method, groups, way = case
    quick = way != "checkpointed" and (method in QUICK if size == 3 or groups == "one group" else True)
    quick = quick and not (size == 3 and (groups == "one group" or way == "cached") and method != "moco-v2")
    name = f"{', '.join(case)}-{size}"
    return pytest.param(case, size, id=name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("case", "size"), [_marked(case, size) for size in (2, 3) for case in cases()])
def test_processes_equal_one(shared: Shared, case: Case, size: int) -> None:
    one, each = alone(*case), [found[case] for found in shared(size)]
    losses = one["losses"]
    assert losses.max() - losses.min() > 0.02  # something moved, or equality would say little
    for found in each:
        assert found.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(found[name], value, atol=1e-9, rtol=0, equal_nan=True, msg=name)
            # and each other to the last bit, or they would drift apart in a long run
            assert torch.equal(found[name].nan_to_num(), each[0][name].nan_to_num()), name
