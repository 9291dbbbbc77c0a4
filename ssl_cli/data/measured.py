"""What a set of images decides about its settings: range of numbers, mean and deviation of channels; its groups."""

from typing import Any

import torch
from torch import Tensor

from ssl_cli.config.augment import NormalizeSettings
from ssl_cli.config.tree import Settings
from ssl_cli.data.decode import read_numbers
from ssl_cli.data.loader import cap_for, read_all
from ssl_cli.data.numbers import Range, widened
from ssl_cli.data.positives import in_words
from ssl_cli.data.source import Source
from ssl_cli.data.split import files_of
from ssl_cli.errors import DataError
from ssl_cli.events import Choice

FILES = 64
"""Files, evenly apart, whose numbers are looked at for the range."""
MOST_PIXELS = 2**28
"""Pixels after which no further file is looked at."""
IMAGES = 256
"""Images, evenly apart, of which mean and deviation are taken."""
LEAST_DEVIATION = 1 / 255
DIGITS = 5


def measured(settings: Settings, source: Source | None) -> tuple[Settings, tuple[Choice, ...]]:
    """Return the settings with what is measured of the images in place, and that in words.

    Args:
        settings: of the run; `data.range` is measured if it is `auto`, `augment.normalize` if `data.normalize` says so.
        source: the images, which are read in that range from then on; None: they are not here.
    """
    if source is None:
        return settings, ()
    settings, choices = _with_range(settings, source)
    choices = (*choices, *in_words(settings, source))
    if settings.data.normalize == "measured":
        settings, choice = _normalised(settings, source)
        choices = (*choices, choice)
    return settings, choices


def _with_range(settings: Settings, source: Source) -> tuple[Settings, tuple[Choice, ...]]:
    given = settings.data.range
    if given == "per-image":
        return settings, (Choice(name="range", value="each image's own", reason="given"),)
    if given != "auto":
        return settings, (Choice(name="range", value=_words(given), reason="given"),)
    files, _ = files_of(source, 0)
    if not hasattr(files, "stored") or not len(source):
        return settings, ()
    found, reason = _measured_range(source, settings.data.channels)
    if found is None:
        return settings, ()
    files.value_range = found
    data = settings.data.model_copy(update={"range": found})
    return settings.model_copy(update={"data": data}), (Choice(name="range", value=_words(found), reason=reason),)


def _words(ends: Any) -> str:
    return f"{ends[0]:.6g} to {ends[1]:.6g}"


def _measured_range(source: Source, channels: int) -> tuple[Range | None, str]:
    """Measure the range of a set's numbers of other than 8 bits: that of its files, of each without its tails.

    Note:
        The files looked at, and so the range, depend on the set alone. Those that cannot be read are left out.
    """
    spans: list[Range] = []
    kinds: set[str] = set()
    indices = _evenly(len(source), FILES)
    pixels = looked_at = 0
    for index in indices.tolist():
        files, place = files_of(source, index)
        looked_at += 1
        try:
            numbers = read_numbers(files.stored(place), channels)
        except DataError:
            continue
        if numbers is None or numbers.values.dtype == "uint8":
            continue
        span = numbers.span()
        if span is not None:
            spans.append(span)
            kinds.add(numbers.kind)
        pixels += numbers.values.size
        if pixels > MOST_PIXELS:
            break
    if not spans:
        return None, ""
    ends = widened((min(low for low, _ in spans), max(high for _, high in spans)))
    where = f"{' and '.join(sorted(kinds))} in {len(spans)} of {looked_at} files looked at"
    return ends, f"{where}; black and white of the whole set"


def _normalised(settings: Settings, source: Source) -> tuple[Settings, Choice]:
    """Measure mean and deviation of each channel, in [0, 1], over images shrunk as training reads them.

    Raises:
        DataError: no image can be read.
    """
    mean, square, count = torch.zeros(1), torch.zeros(1), 0
    cap = cap_for(settings.data.size)
    for part, _, _ in read_all(source, _evenly(len(source), IMAGES), threads=settings.data.threads, cap=cap, batch=32):
        for image in part:
            x = image.flatten(1).double() / 255
            mean, square, count = mean + x.mean(1), square + x.square().mean(1), count + 1
    if not count:
        raise DataError("None of the images looked at can be read.", "Repair or remove them.")
    mean, square = mean / count, square / count
    deviation = (square - mean.square()).clamp(min=0).sqrt().clamp(min=LEAST_DEVIATION)
    found = NormalizeSettings(mean=_rounded(mean), std=_rounded(deviation))
    augment = settings.augment.model_copy(update={"normalize": found})
    mean_words, std_words = (" ".join(f"{x:.3f}" for x in numbers) for numbers in (found.mean, found.std))
    words = f"mean {mean_words}, deviation {std_words}"
    choice = Choice(name="normalised by", value=words, reason=f"measured on {count:,} of {len(source):,} images")
    return settings.model_copy(update={"augment": augment}), choice


def _rounded(x: Tensor) -> tuple[float, ...]:
    return tuple(round(value, DIGITS) for value in x.tolist())


def _evenly(length: int, count: int) -> Tensor:
    return torch.linspace(0, length - 1, min(count, length)).long()
