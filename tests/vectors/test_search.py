"""Exact search against loops of float64, whatever the block, and within bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ssl_cli.vectors import search
from ssl_cli.vectors.search import Pairs, nearest, similar_pairs, typical_similarity


@pytest.fixture
def rows() -> np.ndarray:
    """23 rows, some of them nearly or exactly equal up to their length, one of zeros."""
    draw = np.random.default_rng(0)
    found = draw.normal(size=(23, 6))
    found[7], found[20] = 3 * found[2], found[2] + 0.02 * draw.normal(size=6)
    found[11] = found[12]
    found[4] = 0
    return found.astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """In float64; 0 with a row of zeros."""
    length = float(np.linalg.norm(a.astype(np.float64)) * np.linalg.norm(b.astype(np.float64)))
    return float(np.dot(a.astype(np.float64), b.astype(np.float64))) / length if length else 0.0


@pytest.mark.parametrize("block", [1, 5, 23, 100])
@pytest.mark.parametrize("without", [None, 2])
def test_the_nearest_are_those_of_a_loop(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch, block: int, without: int | None
) -> None:
    monkeypatch.setattr(search, "BLOCK", block)
    similarity, index = nearest(rows, torch.from_numpy(5 * rows[2]), 4, without=without)
    wanted = sorted((-cosine(row, rows[2]), place) for place, row in enumerate(rows) if place != without)[:4]
    assert set(index.tolist()) == {place for _, place in wanted}
    assert similarity.tolist() == pytest.approx([-value for value, _ in wanted], abs=1e-6)
    assert float(similarity.max()) <= 1
    assert len(nearest(rows, torch.from_numpy(rows[2]), 99, without=without)[1]) == (23 if without is None else 22)


def test_of_equally_near_rows_the_earliest_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK", 4)
    equal = np.ones((11, 3), np.float32)
    assert nearest(equal, torch.ones(3), 6, without=1)[1].tolist() == [0, 2, 3, 4, 5, 6]


def pairs_of(rows: np.ndarray, above: float, most: int) -> Pairs:
    *_, found = similar_pairs(rows, above, most)
    return found


@pytest.mark.parametrize("block", [1, 4, 22, 23])
@pytest.mark.parametrize("most", [3, 1000])
@pytest.mark.parametrize("above", [-1.0, 0.3, 0.99, 1.0])
def test_pairs_are_those_of_a_loop(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch, block: int, most: int, above: float
) -> None:
    monkeypatch.setattr(search, "BLOCK", block)
    found = pairs_of(rows, above, most)
    every = {(i, j): cosine(rows[i], rows[j]) for i in range(23) for j in range(i + 1, 23)}
    wanted = {pair: value for pair, value in every.items() if value >= above - 1e-9}
    assert (found.count, found.done) == (len(wanted), 23)
    assert found.paired.nonzero()[:, 0].tolist() == sorted({row for pair in wanted for row in pair})
    listed = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len({*listed}) == len(listed) == min(most, len(wanted))
    assert {*listed} <= wanted.keys()
    assert found.similarity.tolist() == pytest.approx(sorted(wanted.values(), reverse=True)[:most], abs=1e-6)
    assert found.similarity.tolist() == pytest.approx([every[pair] for pair in listed], abs=1e-6)


def test_equal_rows_are_pairs_at_one() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)
    rows[100:] = rows[:100] * np.linspace(0.1, 9, 100, dtype=np.float32)[:, None]
    found = pairs_of(rows, 1.0, 500)
    assert {*zip(found.first.tolist(), found.second.tolist(), strict=True)} == {(i, i + 100) for i in range(100)}
    assert found.count == 100


def test_what_is_typical_is_a_median(rows: np.ndarray) -> None:
    every = [cosine(rows[i], rows[j]) for i in range(23) for j in range(i + 1, 23)]
    assert typical_similarity(rows) == pytest.approx(float(np.median(every)), abs=1e-6)
    assert typical_similarity(rows[:1]) is None


@pytest.mark.slow
def test_a_set_of_nothing_but_duplicates_takes_bounded_memory() -> None:
    program = (
        "import numpy as np, torch\n"
        "from ssl_cli import memory\n"
        "from ssl_cli.vectors.search import similar_pairs\n"
        "rows = np.ones((12_000, 8), np.float32)\n"
        "before = memory.peak(torch.device('cpu'))\n"
        "*_, found = similar_pairs(rows, 0.98, 10_000)\n"
        "assert found.count == 12_000 * 11_999 // 2, found.count\n"
        "assert len(found.similarity) == 10_000\n"
        "print((memory.peak(torch.device('cpu')) - before) // 2**20)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200
