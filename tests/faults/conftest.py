"""Runs without interruption, to compare with."""

from pathlib import Path

import pytest

from tests.faults import runs


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train each method once without interruption."""
    folder = tmp_path_factory.mktemp("reference")
    for method in runs.METHODS:
        code, stderr = runs.finish(runs.start(method, folder / method))
        assert code == 0, stderr
    return {method: folder / method for method in runs.METHODS}
