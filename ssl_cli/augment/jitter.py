"""Colour jitter: brightness, contrast, saturation and hue, in a random order per image."""

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
"""Positions of the other three in an order, counted from that of the hue."""
ORDERS = torch.tensor(list(permutations(range(4))))


class Jittered(NamedTuple):
    """Hold which images are jittered, in which order, and how strongly.

    Attributes:
        on: bool `(N,)`.
        order: int64 `(N,4)`, which of brightness 0, contrast 1, saturation 2, hue 3 comes first, second, ...
        factor: float32 `(N,4)`, of brightness, contrast and saturation (1: no change), and the hue's shift in turns.
    """

    on: Tensor
    order: Tensor
    factor: Tensor


class Jitter:
    """Change the colours with probability p and clamp to [0, 1] after each of the four, as in torchvision.

    SimCLR's own code scales S of HSV as saturation, and blends with the mean of each channel as contrast. Images of
    other than three channels have no saturation and no hue, and their gray is the mean of the channels.
    """

    slots = draws.slots("jitter", 6)

    def __init__(self, settings: JitterSettings, size: int) -> None:
        self.settings = settings
        s = settings.strength
        self.reach = torch.tensor([settings.brightness, settings.contrast, settings.saturation, settings.hue]) * s

    def draw(self, key: draws.Key, sides: Tensor) -> Jittered:
        """Draw whether each image is jittered, one of 24 orders, and four factors."""
        u = draws.uniform(*key, self.slots)
        reach = self.reach.to(u.device)
        centre = torch.ones_like(reach)
        low = (centre - reach).clamp_(min=0)
        low[HUE], centre[HUE] = -reach[HUE], 0
        factor = low + (centre + reach - low) * u[:, 2:]
        order = ORDERS.to(u.device)[(u[:, 1] * len(ORDERS)).long()]
        return Jittered(u[:, 0] < self.settings.p, order, factor)

    def apply(self, x: Tensor, params: Jittered) -> Tensor:
        """Jitter images `(N,C,H,W)` in [0, 1] where drawn, in place."""
        rows = params.on.nonzero().squeeze(1)
        place, by_place = (params.order[rows] == HUE).int().argmax(1).sort(stable=True)
        return at_rows(
            x, rows[by_place], lambda images, rows: _jitter(images, place, params.order[rows], params.factor[rows])
        )

    def describe(self, params: Jittered, row: int, sides: Tensor) -> Drawn | None:
        """Report order and factors; in words those that have an effect. None for an image that is not jittered."""
        if not params.on[row]:
            return None
        order = [NAMES[k] for k in params.order[row].tolist()]
        factor = {name: number(params.factor[row, k]) for k, name in enumerate(NAMES)}
        words = [_words(name, factor[name]) for name in order]
        return Drawn({"order": order, **factor}, " ".join(["jitter", *filter(None, words)]))

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Jittered]]:
        """Return parameters for each of the four alone, from the lowest factor to the highest."""
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
    """Return `bri 1.20` or `hue +0.04`; an empty string for a factor without effect."""
    if name == "hue":
        return f"hue {factor:+.2f}" if factor else ""
    return f"{name[:3]} {factor:.2f}" if factor != 1 else ""


def _jitter(x: Tensor, place: Tensor, order: Tensor, factor: Tensor) -> Tensor:
    """Jitter images x `(N,C,H,W)`, sorted by the `place` of the hue in their order; in place.

    The hue of all images is shifted at once, although it is costly and each image has its own order: an image's blends
    before the hue are done in the last of three steps before it, those after it in the first of three steps after it.
    As x is sorted, the images that take part in a step are a slice at either end of x.
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
            weight, mean, gray = blends[:, k, rows]
            _blend(x[rows], weight, mean if gray_needed[0][k] else None, gray if gray_needed[1][k] else None)
    return x


def _blends(place: Tensor, order: Tensor, factor: Tensor, *, colour: bool) -> Tensor:
    """Return weights `(3,6,N)` of an image, its mean gray and its gray image, in the steps before and after the hue."""
    wanted = place + torch.tensor(FROM_HUE)[:, None]
    inside = wanted.clamp(0, order.shape[1] - 1)
    kind = order.T.gather(0, inside)  # (6,N)
    weight = factor.T.gather(0, kind)
    if not colour:
        weight[kind >= SATURATION] = 1
    rest = (1 - weight).mul_(inside == wanted)
    return torch.stack([weight, rest * (kind == CONTRAST), rest * (kind == SATURATION)])


def _blend(x: Tensor, weight: Tensor, mean: Tensor | None, gray: Tensor | None) -> None:
    """Set x to `weight * x + mean * (mean gray of x) + gray * (gray of x)`, clamped to [0, 1], in place.

    Brightness, contrast and saturation blend the image with black, with its mean gray and with its gray image. x is
    `(N,C,H,W)`; weights are `(N,1,1,1)`, or None if 0 for all images.
    """
    add: Tensor | None = None
    if mean is not None:
        means = x.mean((2, 3), keepdim=True)
        add = (luma(means) if x.shape[1] == len(LUMA) else means.mean(1, keepdim=True)).mul_(mean)
    if gray is not None:
        grays = luma(x).mul_(gray)
        add = grays if add is None else grays.add_(add)
    x.mul_(weight)
    (x if add is None else x.add_(add)).clamp_(0, 1)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Shift the HSV hue of RGB images x `(N,3,...)` by `turn`, `(N,)` in turns, in place.

    Exact, without HSV's six cases, which would take longer than all the arithmetic here. In sixths of a turn the hue is
    `(value + green - red + blue - 2 low) / chroma`, negative where blue exceeds green, from -3 to 3. A channel is the
    value less the chroma times a trapezoid of the hue's distance from the hue at which that channel is darkest: 3 for
    red, 5 for green and 1 for blue. The shift is subtracted from these three, which are then reduced to -3 to 3, so
    that no distance exceeds 6 and no pixel's hue has to be reduced.
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
    trapezoid = (hue[:, None] + offset.view(shape)).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return torch.addcmul(value[:, None], trapezoid, chroma[:, None], value=-1, out=x)
