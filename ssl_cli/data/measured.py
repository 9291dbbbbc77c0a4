"""Settings that are measured of a set of images: range, depth, mean and standard deviation; its groups."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ssl_cli.config.augment import NormalizeSettings
from ssl_cli.config.tree import Settings
from ssl_cli.data.decode import read_numbers
from ssl_cli.data.loader import cap_for, read_all
from ssl_cli.data.numbers import Numbers, Range, widened
from ssl_cli.data.positives import describe_positives
from ssl_cli.data.source import Source
from ssl_cli.data.split import evenly, files_of
from ssl_cli.errors import DataError
from ssl_cli.events import Choice

FILES = 64
"""Files, evenly spaced, that are sampled for the range."""
MOST_PIXELS = 2**28
"""Pixels after which no further file is sampled."""
IMAGES = 256
"""Images, evenly spaced, of which mean and standard deviation are taken."""
DIGITS = 5


def measured(settings: Settings, source: Source | None) -> tuple[Settings, tuple[Choice, ...]]:
    """Return the settings with what is measured of the images in place, and that in words.

    Args:
        settings: of the run; `data.range` and `data.depth` are measured if they are `auto`, `augment.normalize` if
            `data.normalize` says so.
        source: the images, which are read in that range and depth from then on; None: they are not here.
    """
    if source is None:
        return settings, ()
    settings, choices = _with_numbers(settings, source)
    choices = (*choices, *describe_positives(settings, source))
    if settings.data.normalize == "measured":
        settings, choice = _normalised(settings, source)
        choices = (*choices, choice)
    return settings, choices


def _with_numbers(settings: Settings, source: Source) -> tuple[Settings, tuple[Choice, ...]]:
    """Return the settings with range and depth of the files' numbers, and both in words; nothing of 8 bits alone."""
    data, files = settings.data, files_of(source, 0)[0]
    here = hasattr(files, "stored") and len(source) > 0
    sampled = _Sampled()
    if here and "auto" in (data.range, data.depth):
        sampled = _sample(source, data.channels, all_files=data.range == "auto")
    found, choices = dict[str, Any](), list[Choice]()
    if data.range == "per-image":
        choices.append(Choice(name="range", value="each image's own", reason="given"))
    elif data.range != "auto":
        choices.append(Choice(name="range", value=_words(data.range), reason="given"))
    elif sampled.spans:
        found["range"] = files.value_range = sampled.range
        reason = f"{sampled.words}; black and white of the whole set"
        choices.append(Choice(name="range", value=_words(sampled.range), reason=reason))
    if data.depth != "auto":
        choices += [Choice(name="depth", value=f"{data.depth} bits", reason="given")] if here else []
    elif sampled.wide:
        found["depth"] = files.depth = 16
        reason = f"{sampled.words}; --set data.depth=8 takes half the memory"
        choices.append(Choice(name="depth", value="16 bits", reason=reason))
    if found:
        settings = settings.model_copy(update={"data": data.model_copy(update=found)})
    return settings, tuple(choices)


def _words(ends: Any) -> str:
    return f"{ends[0]:.6g} to {ends[1]:.6g}"


@dataclass
class _Sampled:
    """What is found in the sampled files: how many there are, and of those of other than 8 bits what.

    `wide` are the latter; `spans` are the ranges of those that have none of their own.
    """

    files: int = 0
    wide: int = 0
    kinds: set[str] = field(default_factory=set)
    spans: list[Range] = field(default_factory=list)

    @property
    def range(self) -> Range:
        """The range of all files, of each without its tails."""
        return widened((min(low for low, _ in self.spans), max(high for _, high in self.spans)))

    @property
    def words(self) -> str:
        """The kinds of numbers, and in how many files."""
        return f"{' and '.join(sorted(self.kinds))} in {self.wide} of {self.files} sampled files"


def _sample(source: Source, channels: int, *, all_files: bool) -> _Sampled:
    """Sample files of a set, evenly spaced, for numbers of other than 8 bits; else up to the first that has some.

    Note:
        The sampled files, and so the range, depend on the set alone. Those that cannot be read are left out.
    """
    sampled, pixels = _Sampled(), 0
    for index in evenly(len(source), FILES).tolist():
        sampled.files += 1
        numbers = _wide_numbers(source, index, channels)
        if numbers is None:
            continue
        span = numbers.span()
        if span is not None:
            sampled.wide += 1
            sampled.spans += [] if numbers.full else [span]
            sampled.kinds.add(numbers.kind)
        pixels += numbers.values.size
        if pixels > MOST_PIXELS or (sampled.wide and not all_files):
            break
    return sampled


def _wide_numbers(source: Source, index: int, channels: int) -> Numbers | None:
    """Return the numbers of an image; None: they have 8 bits, or cannot be read."""
    files, place = files_of(source, index)
    try:
        numbers = read_numbers(files.stored(place), channels)
    except DataError:
        return None
    return None if numbers is None or numbers.values.dtype == "uint8" else numbers


def _normalised(settings: Settings, source: Source) -> tuple[Settings, Choice]:
    """Measure mean and standard deviation of each channel, in [0, 1], over images shrunk as training reads them.

    Raises:
        DataError: no image can be read.
    """
    mean, square, count, least = torch.zeros(1), torch.zeros(1), 0, 1.0
    cap = cap_for(settings.data.size)
    for part, _, _ in read_all(source, evenly(len(source), IMAGES), threads=settings.data.threads, cap=cap, batch=32):
        for image in part:
            x = image.flatten(1).double() / torch.iinfo(image.dtype).max
            mean, square, count = mean + x.mean(1), square + x.square().mean(1), count + 1
            least = 1 / torch.iinfo(image.dtype).max
    if not count:
        raise DataError("None of the sampled images can be read.", "Repair or remove them.")
    mean, square = mean / count, square / count
    std = (square - mean.square()).clamp(min=0).sqrt().clamp(min=least)
    found = NormalizeSettings(mean=_rounded(mean), std=_rounded(std))
    augment = settings.augment.model_copy(update={"normalize": found})
    mean_words, std_words = (" ".join(f"{x:.3f}" for x in numbers) for numbers in (found.mean, found.std))
    words = f"mean {mean_words}, standard deviation {std_words}"
    choice = Choice(name="normalised by", value=words, reason=f"measured on {count:,} of {len(source):,} images")
    return settings.model_copy(update={"augment": augment}), choice


def _rounded(x: Tensor) -> tuple[float, ...]:
    return tuple(round(value, DIGITS) for value in x.tolist())
