"""Runs without interruption, to compare with."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import runs

References = Callable[[str], Path]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    """Train a method without interruption, once; return its run folder."""
    folder = tmp_path_factory.mktemp("reference")

    @functools.cache
    def reference(method: str) -> Path:
        code, stderr = runs.finish(runs.Life(method, folder / method))
        assert code == 0, stderr
        return folder / method

    return reference
