"""Colour jitter: brightness, contrast, saturation and hue, each image in its own random order."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn, number
from ssl_cli.augment.gray import LUMA, luma
from ssl_cli.augment.rows import at_rows
from ssl_cli.config.augment import JitterSettings
from ssl_cli.objective import to_device

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NAMES = ("brightness", "contrast", "saturation", "hue")
FROM_HUE = (-3, -2, -1, 1, 2, 3)
"""Where the other three may stand in an order, counted from the hue."""
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

    Images of other than three channels have no saturation and no hue, and their gray is the mean of the channels.
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
        rows = params.on.nonzero().squeeze(1)
        place, by_place = (params.order[rows] == HUE).int().argmax(1).sort(stable=True)
        return at_rows(
            x, rows[by_place], lambda some, rows: _jitter(some, place, params.order[rows], params.factor[rows])
        )

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


def _jitter(x: Tensor, place: Tensor, order: Tensor, factor: Tensor) -> Tensor:
    """Jitter images x `(N,C,H,W)`, sorted by the `place` of the hue in their order; in place.

    Each image goes through its own order, yet all turn their hue at once: the blends that come before it are lined up
    at their end, and those after it at their beginning. Whoever has fewer waits, at either end of x.
    """
    colour = x.shape[1] == len(LUMA)
    blends = _blends(place, order, factor, colour=colour)
    gray_needed = blends[1:].any(2).tolist()
    blends = to_device(blends, x.device)[..., None, None, None]
    counts = place.bincount(minlength=len(NAMES)).tolist()
    for k, step in enumerate(FROM_HUE):
        if step == 1 and colour:
            turn_hue(x, factor[:, HUE])
        rows = slice(sum(counts[:-step]), len(x)) if step < 0 else slice(0, sum(counts[: len(NAMES) - step]))
        if rows.start < rows.stop:
            share, mean, own = blends[:, k, rows]
            _blend(x[rows], share, mean if gray_needed[0][k] else None, own if gray_needed[1][k] else None)
    return x


def _blends(place: Tensor, order: Tensor, factor: Tensor, *, colour: bool) -> Tensor:
    """Weights `(3,6,N)` of the image, its mean gray and its own gray, in the steps before and after the hue."""
    wanted = place + torch.tensor(FROM_HUE)[:, None]
    there = wanted.clamp(0, order.shape[1] - 1)
    kind = order.T.gather(0, there)  # (6,N)
    share = factor.T.gather(0, kind)
    if not colour:
        share[kind >= SATURATION] = 1
    rest = (1 - share).mul_(there == wanted)
    return torch.stack([share, rest * (kind == CONTRAST), rest * (kind == SATURATION)])


def _blend(x: Tensor, share: Tensor, mean: Tensor | None, own: Tensor | None) -> None:
    """`share * x + mean * (mean gray of x) + own * (gray of x)`, within [0, 1]; in place.

    Brightness, contrast and saturation are all of this kind: they blend the image with black, with its mean gray and
    with its own gray. x is `(N,C,H,W)`, weights are `(N,1,1,1)`, None where no image needs that gray.
    """
    add: Tensor | None = None
    if mean is not None:
        means = x.mean((2, 3), keepdim=True)
        add = (luma(means) if x.shape[1] == len(LUMA) else means.mean(1, keepdim=True)).mul_(mean)
    if own is not None:
        gray = luma(x).mul_(own)
        add = gray if add is None else gray.add_(add)
    x.mul_(share)
    (x if add is None else x.add_(add)).clamp_(0, 1)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """RGB images x `(N,3,...)` with their HSV hue turned by `turn`, `(N,)` in turns; in place.

    Exact HSV, without its six cases: these cost more than all the arithmetic here. In sixths of a turn the hue is
    `(value + green - red + blue - 2 low) / chroma`, negative where blue exceeds green, from -3 to 3. A channel is the
    value less the chroma times a trapezoid of the hue's distance from where that channel is darkest, 3 for red, 5 for
    green and 1 for blue: the turn is taken off these three numbers, moved by whole turns to within 3 of zero, so that
    no distance exceeds 6 and no pixel's hue need be brought back into its circle.
    """
    red, green, blue = x.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    hue = (green - red).add_(blue).add_(value).sub_(low, alpha=2)
    chroma = low.neg_().add_(value)
    hue.div_(chroma.clamp(min=1e-20)).copysign_(green - blue)
    offset = 6 * turn[:, None] - torch.tensor([3.0, 5.0, 1.0])
    offset = to_device(offset - 6 * (offset / 6).round(), x.device)
    shape = (*offset.shape, *[1] * (x.dim() - 2))
    share = (hue[:, None] + offset.view(shape)).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return torch.addcmul(value[:, None], share, chroma[:, None], value=-1, out=x)
