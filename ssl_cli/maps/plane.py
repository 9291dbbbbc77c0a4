"""Map rows to two dimensions: PCA here, t-SNE by scikit-learn, UMAP by umap-learn; the same for the same seed."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.errors import DivergedError

CHUNK = 4096
"""Rows converted to float64 at a time."""
FIRST = 50
"""Dimensions to which PCA reduces before t-SNE and UMAP (van der Maaten and Hinton 2008, section 4.2: 30)."""
PERPLEXITY, NEIGHBORS = 30.0, 15
"""Of t-SNE and UMAP, where there are rows enough: the defaults of their libraries."""
FEWEST = 4
"""Rows that t-SNE and UMAP take at least."""
SAME = 1e-6
"""Rows of length 1 that are nowhere further from their mean are equal up to rounding."""


@dataclass(frozen=True)
class Plane:
    """Hold the positions float64 `(N,2)`; of PCA also the shares of the variance that the axes explain."""

    positions: Tensor
    explained: tuple[float, ...] = ()


def mapped(rows: Tensor, method: str, seed: int) -> Plane:
    """Map rows `(N,F)`, divided by their length, to the plane.

    Args:
        rows: h or z.
        method: `pca`, `tsne` or `umap`; of fewer than `FEWEST` rows it is PCA.
        seed: of t-SNE and UMAP.

    Raises:
        DivergedError: the library found positions that are not finite.
    """
    unit = F.normalize(rows.float(), dim=1)
    if method == "pca" or len(rows) < FEWEST:
        positions, shares = principal(unit, 2)
        return Plane(positions, tuple(shares.tolist()))
    first = principal(unit, FIRST)[0].float().numpy()
    if float(np.abs(first).max()) < SAME:
        return Plane(torch.zeros(len(rows), 2, dtype=torch.float64))
    positions = torch.from_numpy((_tsne if method == "tsne" else _umap)(first, seed)).double()
    if not bool(positions.isfinite().all()):
        raise DivergedError("The positions that were found are not finite.", "Use --by pca, or another --seed.")
    return Plane(positions - positions.mean(0))


def principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return coordinates `(N,count)` on the principal axes of rows `(N,F)`, and the shares `(count,)` of the variance.

    In float64; an axis points to where its largest entry is positive. Of fewer dimensions the others are 0.
    """
    mean = sum(part.double().sum(0) for part in torch.split(rows, CHUNK)) / len(rows)
    covariance = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part in torch.split(rows, CHUNK):
        centred = part.double() - mean
        covariance += centred.T @ centred
    values, vectors = torch.linalg.eigh(covariance)
    axes = vectors[:, -count:].flip(1)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    shares = values[-count:].flip(0).clamp(min=0) / values.clamp(min=0).sum().clamp(min=1e-300)
    found = torch.cat([(part.double() - mean) @ axes for part in torch.split(rows, CHUNK)])
    missing = count - found.shape[1]
    return F.pad(found, (0, max(missing, 0))), F.pad(shares, (0, max(missing, 0)))


def _tsne(rows: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # of scikit-learn's own

    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    start = rows[:, :2] / max(float(rows[:, 0].std()), 1e-12) * 1e-4  # as scikit-learn scales its own, of one solver
    with threadpool_limits(1, "openmp"):  # threads would add up the normaliser in the order in which they end
        found: np.ndarray = TSNE(perplexity=perplexity, init=start, random_state=seed, n_jobs=1).fit_transform(rows)
    return found


def _umap(rows: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries below it, on what is not asked for
        from umap import UMAP

        near = min(NEIGHBORS, len(rows) - 1)
        start = rows[:, :2] / max(float(np.abs(rows[:, :2]).max()), 1e-12) * 10
        found: np.ndarray = UMAP(n_neighbors=near, init=start, random_state=seed, n_jobs=1).fit_transform(rows)
    return found
