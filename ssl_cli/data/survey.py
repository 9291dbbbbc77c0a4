"""Look at the images of a source and describe them: sizes, formats, numbers, brightness, copies, classes, groups."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ssl_cli.data.alike import COMPARED, FLAT, alike, copies
from ssl_cli.data.bad import too_many
from ssl_cli.data.facts import CAP, Facts, Inspector
from ssl_cli.data.reader import PendingRead, Reader
from ssl_cli.data.source import BatchedSource, Source, groups_of
from ssl_cli.errors import DataError

BLOCK = 8
"""Neighbours that are looked at together where a part of the images is: a copy often lies next to its original."""
SHOWN = 5
_PENDING = 256


def sample_of(images: int, most: int) -> Tensor:
    """Return the places int64 `(M,)` of all images, or of `most` of them: blocks of neighbours evenly spaced."""
    if images <= most:
        return torch.arange(images)
    blocks = max(most // BLOCK, 1)
    starts = torch.arange(blocks) * images // blocks
    return (starts[:, None] + torch.arange(min(BLOCK, most))).flatten()


@dataclass
class Survey:
    """What was found of the images of a source.

    Attributes:
        source: the images.
        chosen: int64 `(M,)`, those that are looked at.
        facts: of those that were read, by index.
        bad: reasons of those that could not be read, by index.
    """

    source: Source
    chosen: Tensor
    facts: Mapping[int, Facts] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)

    def look(self, threads: int | None = None) -> Iterator[int]:
        """Read the chosen images in threads; yield how many were, now and then."""
        inspector = Inspector(self.source)
        self.facts = inspector.facts
        if isinstance(self.source, BatchedSource):
            for start in range(0, len(self.chosen), _PENDING):
                yield start
                inspector.read_many(self.source, self.chosen[start : start + _PENDING])
            return
        with Reader(inspector, threads, CAP) as reader:
            pending = deque[PendingRead]()
            for done, index in enumerate(chain(self.chosen.tolist(), [None] * _PENDING)):
                if index is not None:
                    pending.append(reader.submit(index))
                if pending and (index is None or len(pending) > _PENDING):
                    self._finish(reader, pending.popleft())
                if done % BLOCK == 0:
                    yield min(max(done - _PENDING, 0), len(self.chosen))

    def _finish(self, reader: Reader, read: PendingRead) -> None:
        try:
            reader.result(read)
        except DataError as error:
            self.bad[read.index] = error.message

    @property
    def too_many(self) -> bool:
        """Whether so many are bad that training ends."""
        return too_many(len(self.bad), len(self.chosen))

    def listed(self) -> list[Facts]:
        """Return the facts in the order of the images."""
        return [self.facts[index] for index in sorted(self.facts)]

    def places(self) -> list[int]:
        """Return the images of `listed`."""
        return sorted(self.facts)


def described(facts: Sequence[Facts]) -> dict[str, Any]:
    """Describe images, one at least: files, sizes, modes, numbers, brightness and contrast."""
    by_area = sorted(facts, key=lambda of: (of.width * of.height, of.width))
    kinds = dict[str, dict[str, Any]]()
    for of in facts:
        kind = kinds.setdefault(of.kind, {"images": 0})
        kind["images"] += 1
        if of.span is not None:
            kind["low"] = min(of.span[0], kind.get("low", of.span[0]))
            kind["high"] = max(of.span[1], kind.get("high", of.span[1]))
    return {
        "formats": _counted(of.format for of in facts),
        "modes": _counted(of.mode for of in facts),
        "numbers": dict(sorted(kinds.items(), key=lambda item: -item[1]["images"])),
        "bytes": _spread([of.size for of in facts]) | {"total": sum(of.size for of in facts)},
        "sizes": {
            "different": len({(of.width, of.height) for of in facts}),
            "smallest": [by_area[0].width, by_area[0].height],
            "median": [by_area[len(facts) // 2].width, by_area[len(facts) // 2].height],
            "largest": [by_area[-1].width, by_area[-1].height],
            "short_side": _spread([of.short for of in facts]),
            "aspect": _spread([round(of.aspect, 3) for of in facts]),
        },
        "brightness": _spread([round(of.mean, 4) for of in facts]),
        "contrast": _spread([round(of.contrast, 4) for of in facts]),
        "one_colour": sum(255 * of.contrast < FLAT for of in facts),
    }


def _counted(words: Iterator[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"least": ordered[0], "median": ordered[len(ordered) // 2], "most": ordered[-1]}


def copied(surveys: Sequence[Survey]) -> dict[str, Any]:
    """Count equal files and images that are nearly the same, within the surveys and between them."""
    known = [(survey, index) for survey in surveys for index in survey.places()]
    facts = [survey.facts[index] for survey, index in known]
    few: list[int] = sample_of(len(facts), COMPARED).tolist()
    nearly = [[few[k] for k in group] for group in alike([facts[k] for k in few])]
    return {
        "copies": _groups(copies(facts), known),
        "alike": _groups(nearly, known) | {"compared": len(few)},
    }


def _groups(groups: Sequence[Sequence[int]], known: Sequence[tuple[Survey, int]]) -> dict[str, Any]:
    def spans(of: Callable[[Survey, int], Any]) -> int:
        return sum(len({of(*known[k]) for k in group} - {None}) > 1 for group in groups)

    return {
        "images": sum(len(group) - 1 for group in groups),
        "groups": len(groups),
        "largest": max(map(len, groups), default=0),
        "between_classes": spans(lambda survey, index: _class_of(survey.source, index)),
        "between_splits": spans(lambda survey, index: id(survey)),
        "examples": [[known[k][0].source.path(known[k][1]) for k in group[:SHOWN]] for group in groups[:SHOWN]],
    }


def _class_of(source: Source, index: int) -> str | None:
    label = int(source.labels[index])
    return source.classes[label] if label >= 0 else None


def balance(source: Source) -> dict[str, Any] | None:
    """Count the images of each class, all of them; None: there are no labels."""
    counts = _bins(source.labels, len(source.classes))
    if not sum(counts):
        return None
    images = dict(zip(source.classes, counts, strict=True))
    return _balance(images) | {"unlabelled": len(source) - sum(counts), "images": images}


def grouping(source: Source, other: Source | None) -> dict[str, Any] | None:
    """Count the images of each group, and the groups that the test images have too; None: there are no groups."""
    groups = groups_of(source)
    if groups is None:
        return None
    images = dict(zip(groups.names, _bins(groups.of, len(groups.names)), strict=True))
    test = None if other is None else groups_of(other)
    in_both = {test.names[k] for k in set(test.of.tolist()) if k >= 0} & {*images} if test else set()
    without = int((groups.of < 0).sum())
    return _balance(images) | {
        "single": sum(n == 1 for n in images.values()),
        "without": without,
        "in_both": len(in_both),
    }


def _bins(numbers: Tensor, count: int) -> list[int]:
    found: list[int] = numbers[numbers >= 0].bincount(minlength=count).tolist()
    return found


def _balance(images: Mapping[str, int]) -> dict[str, Any]:
    ordered = sorted(((n, name) for name, n in images.items() if n), key=lambda pair: (pair[0], pair[1]))
    (least, small), (most, large) = ordered[0], ordered[-1]
    median = ordered[len(ordered) // 2][0]
    return {
        "number": len(ordered), "least": least, "median": median, "most": most, "smallest": small, "largest": large,
    }  # fmt: skip
