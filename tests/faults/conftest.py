"""Runs without interruption to compare with, and the recorded file operations of runs."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.scripts import SCRIPTS, Life, record

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


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing, which is quicker."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture(scope="module", params=SCRIPTS)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Record the file operations of each script once."""
    return record(SCRIPTS[request.param], tmp_path_factory.mktemp("life"))
