"""Copies among images: equal files, and pictures that are nearly the same, by a small picture of each."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_cli.data.facts import Facts

COMPARED = 20_000
"""Images that are compared with each other, at most: their number counts squared."""
NEAR = 0.08
"""Two pictures are nearly the same if they differ by so much of what either differs from its mean, root mean square."""
ASPECT = 0.05
"""Share by which their aspects may differ."""
FLAT = 2.0
"""Levels of 255: pictures whose standard deviation is less have nothing to compare."""
_ROWS = 1024


def copies(facts: Sequence[Facts]) -> list[list[int]]:
    """Return the positions of files that are equal, a list for each that there is twice or more often."""
    found: dict[bytes, list[int]] = {}
    for position, of in enumerate(facts):
        found.setdefault(of.digest, []).append(position)
    return [positions for positions in found.values() if len(positions) > 1]


def alike(facts: Sequence[Facts]) -> list[list[int]]:
    """Return the positions of images that are nearly the same, in ascending order, without equal files.

    An image belongs to the first earlier one that it is like, and with it to what that one is like. Resized and
    recompressed images are found, also somewhat brighter or darker ones; mirrored or cropped ones are not.
    """
    first = {of.digest: position for position, of in reversed(list(enumerate(facts)))}
    positions = sorted(first.values())
    thumbs = torch.stack([torch.frombuffer(bytearray(facts[k].thumb), dtype=torch.uint8) for k in positions] or [_NONE])
    x = thumbs.float()
    x -= x.mean(1, keepdim=True)
    norms = x.norm(dim=1)
    aspects = torch.tensor([facts[k].width / facts[k].height for k in positions] or [1.0])
    shaped = norms > FLAT * x.shape[1] ** 0.5
    nearest = _earlier(x, norms, aspects, shaped)
    groups: dict[int, list[int]] = {}
    leader = list(range(len(positions)))
    for k, earlier in enumerate(nearest.tolist()[: len(positions)]):
        if earlier < k:
            leader[k] = leader[earlier]
            groups.setdefault(leader[k], [positions[leader[k]]]).append(positions[k])
    return list(groups.values())


_NONE = torch.zeros(1, dtype=torch.uint8)


def _earlier(x: Tensor, norms: Tensor, aspects: Tensor, shaped: Tensor) -> Tensor:
    """Return for each row of x `(N,D)` the first row that it is nearly the same as, itself if there is none earlier."""
    nearest = torch.arange(len(x))
    squares = norms.square()
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        stop = min(start + _ROWS, len(x))
        distances = squares[rows, None] + squares[None, :stop] - 2 * (x[rows] @ x[:stop].T)
        most = NEAR * torch.maximum(norms[rows, None], norms[None, :stop])
        near = distances <= most.square()
        near &= shaped[rows, None] & shaped[None, :stop]
        near &= (aspects[rows, None] / aspects[None, :stop]).log().abs() <= ASPECT
        found = near.int().argmax(1)
        nearest[rows] = torch.where(near.any(1), torch.minimum(found, nearest[rows]), nearest[rows])
    return nearest
