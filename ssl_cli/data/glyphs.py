"""Twelve glyphs as signed distances: negative inside, positive outside, each within the unit circle."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]
"""Compute the signed distance of points `(x, y)`, two tensors of one shape; x grows rightwards, y upwards."""


def _disk(radius: float, x0: float = 0.0, y0: float = 0.0) -> Distance:
    return lambda x, y: torch.hypot(x - x0, y - y0) - radius


def _ring(radius: float, half_width: float) -> Distance:
    return lambda x, y: (torch.hypot(x, y) - radius).abs() - half_width


def _polygon(*corners: tuple[float, float]) -> Distance:
    """Return the distance to the nearest edge, negative inside (by the even-odd rule)."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest = torch.full_like(x, math.inf)
        inside = torch.zeros_like(x, dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ex, ey = bx - ax, by - ay
            px, py = x - ax, y - ay
            along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp_(0, 1)
            nearest = torch.minimum(nearest, (px - along * ex).square_() + (py - along * ey).square_())
            if ey:  # a horizontal edge is never crossed by a horizontal ray
                inside ^= ((py < 0) != (y < by)) & (px < py * (ex / ey))
        return torch.where(inside, -nearest.sqrt(), nearest.sqrt())

    return distance


def _union(*parts: Distance) -> Distance:
    def distance(x: Tensor, y: Tensor) -> Tensor:
        whole = parts[0](x, y)
        for part in parts[1:]:
            whole = torch.minimum(whole, part(x, y))
        return whole

    return distance


def _without(shape: Distance, hole: Distance) -> Distance:
    return lambda x, y: torch.maximum(shape(x, y), -hole(x, y))


def _spiral(pitch: float, start: float, end: float, half_width: float) -> Distance:
    """Return the distance to a band of constant width along radius = pitch * angle, from angle `start` to `end`."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        angle = torch.atan2(y, x)
        turn = torch.round((torch.hypot(x, y) / pitch - angle) / math.tau)
        wound = (angle + math.tau * turn).clamp_(start, end)
        return torch.hypot(x - pitch * wound * wound.cos(), y - pitch * wound * wound.sin()) - half_width

    return distance


def _around(radii: Sequence[float], first: float = 90.0) -> list[tuple[float, float]]:
    """Return corners at equal angles, counter-clockwise from `first` degrees."""
    angles = (math.radians(first) + math.tau * k / len(radii) for k in range(len(radii)))
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


_ARM = 0.27
_CROSS = [(_ARM, _ARM), (_ARM, 0.95), (-_ARM, 0.95), (-_ARM, _ARM), (-0.95, _ARM), (-0.95, -_ARM)]

GLYPHS: dict[str, Distance] = {
    "disk": _disk(0.82),
    "ring": _ring(0.72, 0.2),
    "square": _polygon(*_around([1.0] * 4)),
    "triangle": _polygon(*_around([1.0] * 3)),
    "star": _polygon(*_around([1.0, 0.42] * 5)),
    "cross": _polygon(*_CROSS, *((-x, -y) for x, y in _CROSS)),
    "heart": _union(
        _disk(0.46, -0.42, 0.33), _disk(0.46, 0.42, 0.33), _polygon((0, 0.5), (-0.77, 0.03), (0, -0.9), (0.77, 0.03))
    ),
    "crescent": _without(_disk(0.92), _disk(0.75, 0.42)),
    "spiral": _spiral(0.088, 0.9 * math.pi, 3.0 * math.pi, 0.15),
    "hourglass": _polygon((-0.66, 0.75), (0.66, 0.75), (0.12, 0), (0.66, -0.75), (-0.66, -0.75), (-0.12, 0)),
    "arrow": _polygon((0, 1), (-0.75, 0.15), (-0.25, 0.15), (-0.25, -0.9), (0.25, -0.9), (0.25, 0.15), (0.75, 0.15)),
    "pair": _union(_disk(0.42, -0.55), _disk(0.42, 0.55)),
}
