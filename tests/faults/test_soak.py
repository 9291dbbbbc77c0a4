"""Many kills with -9 at random moments, for as long as `SOAK_ROUNDS` asks: `make soak`."""

import os
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import References
from tests.faults.test_kill import run_with_kills

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "20"))
KILLS = 10
"""Kills in one run: few enough that checkpoints are saved between them."""


@pytest.mark.soak
@pytest.mark.parametrize("method", list(runs.METHODS))
@pytest.mark.parametrize("seed", range(100, 100 + ROUNDS))
def test_killed_runs_end_alike(method: str, seed: int, references: References, tmp_path: Path) -> None:
    assert run_with_kills(method, tmp_path / "run", kills=KILLS, seed=seed) >= 1
    runs.assert_ended_alike(tmp_path / "run", references(method))
