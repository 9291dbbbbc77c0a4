"""Choose crops and flips that suit the images, where they are open, by a test that needs no labels.

It is a classifier two-sample test (arXiv 1610.06545): where a linear classifier on pixels separates augmented images
from originals, these have a place or a direction (signs, digits, scans, products) that strong crops and flips destroy.
Natural photographs it hardly separates from their crops and flips (flips: arXiv 2006.09512).
"""

import contextlib
import math
from typing import Any

import torch
from torch import Tensor

from ssl_cli.augment.crop import Crop
from ssl_cli.augment.evaluation import fit
from ssl_cli.augment.pipeline import sides_of
from ssl_cli.config.tree import Fitted, Settings
from ssl_cli.data.loader import cap_for, read_all
from ssl_cli.data.source import Source
from ssl_cli.data.split import evenly
from ssl_cli.draws import Key
from ssl_cli.errors import DataError
from ssl_cli.events import Choice
from ssl_cli.transfer.pixels import two_sample_accuracy

LARGE_CROPS = 0.4
IMAGES, PIXELS, FEWEST = (64, 512), 2**27, 16
"""Images sampled, evenly spaced: at least and at most, pixels of all their files, and how few choose nothing."""
SIDE = 16
"""Pixels of a side, to which they are shrunk."""
SEPARATED, ERRORS = 0.6, 3
"""Accuracy from which on crops or flips do not suit the images: this, or so many standard errors above chance."""


def suited(
    settings: Settings, source: Source | None, side: float | None
) -> tuple[dict[Fitted, Any], tuple[Choice, ...]]:
    """Return crops and flips for the images, by dotted key, and that in words; nothing where neither is open.

    Args:
        settings: of the run; of `augment.crop.scale` and `augment.flip.p`, those in `run.fit` are open.
        source: the images; None: they are not here.
        side: median short side of their files in pixels; None: unknown.
    """
    augment, used = settings.augment, {*settings.augment.order, *(settings.augment.second or ())}
    crop, flip = (
        f"augment.{key}" in settings.run.fit and key.split(".")[0] in used for key in ("crop.scale", "flip.p")
    )
    if source is None or not (crop or flip):
        return {}, ()
    originals, cropped = _images(settings, source, (side or SIDE) ** 2)
    if len(originals) < FEWEST:
        return {}, ()
    limit = max(SEPARATED, 0.5 + ERRORS / math.sqrt(8 * len(originals)))
    values, words, accuracies = dict[Fitted, Any](), list[str](), list[str]()

    def separated(name: str, augmented: Tensor) -> bool:
        accuracy = two_sample_accuracy(originals.flatten(1), augmented.flatten(1))
        accuracies.append(f"{name} {100 * accuracy:.0f} %")
        return accuracy >= limit

    if crop:
        low, high = augment.crop.scale
        low = max(low, LARGE_CROPS) if separated("crops", cropped) else low
        values["augment.crop.scale"] = (low, max(low, high))
        words.append(f"crops from {100 * low:.0f} %")
    if flip:
        p = 0.0 if separated("flips", originals.flip(3)) else augment.flip.p
        values["augment.flip.p"] = p
        words.append("flips" if p else "no flips")
    reason = f"a linear classifier separates them from originals, chance being 50 %: {', '.join(accuracies)}"
    return values, (Choice(name="augmentation", value=", ".join(words), reason=reason),)


def _images(settings: Settings, source: Source, area: float) -> tuple[Tensor, Tensor]:
    """Return images as evaluation sees them and random crops of them, float32 `(N,C,16,16)` each.

    There are the fewer of them the more pixels, `area`, their files have.
    """
    crop, originals, cropped = Crop(settings.augment.crop, SIDE), [torch.empty(0)], [torch.empty(0)]
    chosen = evenly(len(source), round(min(max(PIXELS / area, IMAGES[0]), IMAGES[1])))
    plain = settings.augment.model_copy(update={"order": ("crop",)})
    with contextlib.suppress(DataError):  # too many bad images: the run itself says so
        for images, _, index in read_all(source, chosen, threads=settings.data.threads, cap=cap_for(SIDE), batch=64):
            originals.append(fit(images, SIDE, plain))
            box = crop.draw(Key(0, 0, index, 0), sides_of(images))  # the choice is the same for all seeds
            cropped.append(crop.apply(images, box))
    return torch.cat(originals[1:] or originals), torch.cat(cropped[1:] or cropped)
