"""Exact search among rows on disk by cosine similarity, a block at a time: nearest rows, and pairs of similar ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1024
"""Rows compared at once: their similarities take 4 MB, and if all are pairs, those 40 MB."""
ROUNDING = 1e-6
"""By how much the float32 similarity of two equal rows may fall short of 1."""
TYPICAL = 512
"""Rows whose similarities say what is usual in a set."""


@dataclass(frozen=True)
class Pairs:
    """Hold pairs of rows that are at least so similar, the most similar first, equally similar ones by their rows.

    Attributes:
        done: rows that have been compared with all others.
        count: all pairs found, also those beyond the listed ones.
        paired: bool `(N,)`, whether a row is in a pair.
        similarity: float32 `(P,)` of the listed pairs.
        first: int64 `(P,)`, their smaller row.
        second: int64 `(P,)`, their greater one.
    """

    done: int
    count: int
    paired: Tensor
    similarity: Tensor = field(default_factory=lambda: torch.empty(0))
    first: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    second: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def unit_rows(rows: np.ndarray, start: int, stop: int, device: torch.device | str = "cpu") -> Tensor:
    """Return rows `start` to `stop` as float32 `(M,F)` of length 1; a row of zeros stays one."""
    return F.normalize(torch.from_numpy(np.array(rows[start:stop], np.float32)).to(device), dim=1)


def nearest(
    rows: np.ndarray, query: Tensor, k: int, *, without: int | None = None, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Return similarity `(K,)` and index `(K,)` of the rows nearest to a query; of equally near ones the earliest.

    Args:
        rows: `(N,F)`.
        query: `(F,)`.
        k: how many; K is less where there are fewer rows.
        without: a row to leave out, such as the query's own.
        device: where to compute.
    """
    query = F.normalize(query.float(), dim=0).to(device)
    similarity, index = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for start in range(0, len(rows), BLOCK):
        found = (unit_rows(rows, start, min(start + BLOCK, len(rows)), device) @ query).cpu()
        places = torch.arange(start, start + len(found))
        fits = places != (-1 if without is None else without)
        similarity, index = torch.cat([similarity, found[fits]]), torch.cat([index, places[fits]])
        order = similarity.sort(descending=True, stable=True).indices[:k]
        similarity, index = similarity[order], index[order]
    return similarity.clamp(-1, 1), index


def similar_pairs(rows: np.ndarray, above: float, most: int, device: torch.device | str = "cpu") -> Iterator[Pairs]:
    """Compare all rows `(N,F)` with one another; yield what was found after each block, at the end all of it.

    Args:
        rows: where they lie does not matter: two blocks of them are in memory.
        above: the smallest similarity of a pair, up to rounding.
        most: pairs that are listed.
        device: where to compute.
    """
    found = Pairs(0, 0, torch.zeros(len(rows), dtype=torch.bool))
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        block = unit_rows(rows, start, stop, device)
        for other in range(start, len(rows), BLOCK):
            columns = block if other == start else unit_rows(rows, other, min(other + BLOCK, len(rows)), device)
            similarity = block @ columns.T
            near = similarity >= above - ROUNDING
            if other == start:
                near = near.triu(1)
            found = _with_block(found, similarity, near, (start, other), most)
        found = Pairs(stop, found.count, found.paired, found.similarity, found.first, found.second)
        yield found


def _with_block(found: Pairs, similarity: Tensor, near: Tensor, place: tuple[int, int], most: int) -> Pairs:
    """Add the pairs of a block of similarities `(M,L)` where `near` is true; `place` is its first row and column."""
    count = int(near.sum())
    if not count:
        return found
    found.paired[place[0] : place[0] + len(near)] |= near.any(1).cpu()
    found.paired[place[1] : place[1] + near.shape[1]] |= near.any(0).cpu()
    if len(found.similarity) == most:
        near = near & (similarity > float(found.similarity[-1]))
    first, second = near.nonzero().unbind(1)
    values = torch.cat([found.similarity, similarity[first, second].clamp(max=1).cpu()])
    ends = [torch.cat([old, new.cpu() + start]) for old, new, start in
            zip((found.first, found.second), (first, second), place, strict=True)]  # fmt: skip
    order = np.lexsort((ends[1].numpy(), ends[0].numpy(), -values.numpy()))[:most]
    best = torch.from_numpy(order)
    return Pairs(found.done, found.count + count, found.paired, values[best], ends[0][best], ends[1][best])


def typical_similarity(rows: np.ndarray) -> float | None:
    """Return the median similarity of two different rows, of evenly spaced ones; None for fewer than two."""
    if len(rows) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(rows) - 1, TYPICAL).astype(np.int64))
    unit = F.normalize(torch.from_numpy(np.array(rows[chosen], np.float32)), dim=1)
    among = unit @ unit.T
    return float(among[torch.ones_like(among, dtype=torch.bool).triu(1)].median())
