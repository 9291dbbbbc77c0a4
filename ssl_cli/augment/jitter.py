"""Colour jitter: brightness, contrast, saturation and hue, each image in its own random order."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn, number
from ssl_cli.augment.gray import LUMA
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import JitterSettings

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NAMES = ("brightness", "contrast", "saturation", "hue")
ORDERS = torch.tensor(list(permutations(range(4))))


class Jittered(NamedTuple):
    """Which images are jittered, in which order, and how strongly.

    Attributes:
        on: bool `(N,)`.
        order: int64 `(N,4)`, which of brightness 0, contrast 1, saturation 2, hue 3 comes first, second, ...
        factor: float32 `(N,4)`, of brightness, contrast, saturation (1 changes nothing) and the hue's turn (0 to 1).
    """

    on: Tensor
    order: Tensor
    factor: Tensor


class Jitter:
    """Colour jitter with probability p; clamps to [0, 1] after each step (SimCLR; factors as in torchvision).

    Brightness, contrast and saturation blend the image with black, with its mean gray and with its own gray: affine
    maps of the colour, `x -> M x + t`, one 3x3 matrix per image. Images of other than three channels have no
    saturation and no hue, and their gray is the mean of the channels.
    """

    slots = draws.slots("jitter", 6)

    def __init__(self, settings: JitterSettings, size: int) -> None:
        self.settings = settings
        s = settings.strength
        self.reach = torch.tensor([settings.brightness, settings.contrast, settings.saturation, settings.hue]) * s

    def draw(self, key: draws.Key, sides: Tensor) -> Jittered:
        """A coin, one of 24 orders and four factors for every image."""
        u = draws.uniform(*key, self.slots)
        reach = self.reach.to(u.device)
        centre = torch.ones_like(reach)
        low = (centre - reach).clamp_(min=0)
        low[HUE], centre[HUE] = -reach[HUE], 0
        factor = low + (centre + reach - low) * u[:, 2:]
        order = ORDERS.to(u.device)[(u[:, 1] * len(ORDERS)).long()]
        return Jittered(u[:, 0] < self.settings.p, order, factor)

    def apply(self, x: Tensor, params: Jittered) -> Tensor:
        """Images `(N,C,H,W)` in [0, 1], some of them jittered; in place."""
        return on_rows(x, params.on, lambda some, rows: _jitter(some, params.order[rows], params.factor[rows]))

    def describe(self, params: Jittered, row: int, sides: Tensor) -> Drawn | None:
        """Order and factors by name; in words what changes anything, in that order. None for an image left alone."""
        if not params.on[row]:
            return None
        order = [NAMES[k] for k in params.order[row].tolist()]
        factor = {name: number(params.factor[row, k]) for k, name in enumerate(NAMES)}
        words = [_words(name, factor[name]) for name in order]
        return Drawn({"order": order, **factor}, " ".join(["jitter", *filter(None, words)]))

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Jittered]]:
        """Each of the four by itself, from the lowest factor to the highest."""
        n = len(sides)
        on, order = torch.ones(n, dtype=torch.bool), ORDERS[:1].expand(n, -1)
        rows: dict[str, list[Jittered]] = {}
        for k, (name, reach) in enumerate(zip(NAMES, self.reach.tolist(), strict=True)):
            low, high = (-reach, reach) if k == HUE else (max(0.0, 1 - reach), 1 + reach)
            rows[name] = []
            for value in torch.linspace(low, high, count).tolist():
                factor = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(n, 1)
                factor[:, k] = value
                rows[name].append(Jittered(on, order, factor))
        return rows


def _words(name: str, factor: float) -> str:
    """`bri 1.20` or `hue +0.04`; nothing for what changes nothing."""
    if name == "hue":
        return f"hue {factor:+.2f}" if factor else ""
    return f"{name[:3]} {factor:.2f}" if factor != 1 else ""


def _jitter(x: Tensor, order: Tensor, factor: Tensor) -> Tensor:
    n, c, h, w = x.shape
    gray = torch.tensor(LUMA if c == len(LUMA) else [1 / c] * c, device=x.device)
    scale, to_gray, to_mean = (t.to(x.device, non_blocking=True) for t in _blends(order, factor, colour=c == len(LUMA)))
    eye = torch.eye(c, device=x.device)
    flat = x.view(n, c, h * w)
    for k in range(order.shape[1]):
        mix = scale[:, k, None, None] * eye + to_gray[:, k, None, None] * gray
        shift = to_mean[:, k] * (flat.mean(2) @ gray)
        flat = torch.bmm(mix, flat).add_(shift[:, None, None]).clamp_(0, 1)
        if c == len(LUMA):
            flat = on_rows(flat, order[:, k] == HUE, lambda some, rows: turn_hue(some, factor[rows, HUE].to(x.device)))
    return flat.view(n, c, h, w)


def _blends(order: Tensor, factor: Tensor, *, colour: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Weights `(N,4)` of the image, its own gray and its mean gray in each step; a hue step leaves it alone."""
    f = factor.gather(1, order)
    still = order == HUE if colour else order >= SATURATION
    rest = 1 - f
    zero = torch.zeros_like(f)
    return (
        torch.where(still, torch.ones_like(f), f),
        torch.where((order == SATURATION) & ~still, rest, zero),
        torch.where(order == CONTRAST, rest, zero),
    )


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """RGB rows x `(N,3,L)` with their HSV hue turned by `turn`, `(N,)` in turns; saturation and value are kept.

    Exact HSV, without its six cases: these cost more than all the arithmetic here. In sixths of a turn the hue is
    `(chroma + green - red + blue - low) / chroma`, negative where blue exceeds green; and a channel is the value less
    the chroma times a trapezoid of the hue's distance from where that channel is darkest, 3 for red, 5 for green and
    1 for blue.
    """
    red, green, blue = x.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    hue = (green - red).add_(blue - low).add_(chroma).div_(chroma.clamp(min=1e-20))
    hue.copysign_(green - blue).add_(6 * turn[:, None])
    hue.sub_((hue / 6).floor_(), alpha=6)  # into [0, 6), at a fifth of the time of remainder
    out = torch.empty_like(x)
    for channel, darkest in enumerate((3.0, 5.0, 1.0)):
        share = (hue - darkest).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
        torch.addcmul(value, share, chroma, value=-1, out=out[:, channel])
    return out
