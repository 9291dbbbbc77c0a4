"""Look at a set of images before training on it: what they are, what is wrong with them, and what a run would be."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ssl_cli.augment import sheet
from ssl_cli.config.images import refuse_among_images
from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_epochs, format_seconds
from ssl_cli.data.facts import Facts
from ssl_cli.data.measured import measured
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_own_test, open_pretraining
from ssl_cli.data.survey import Survey, balance, copied, described, grouping, sample_of
from ssl_cli.engine.build import local_device
from ssl_cli.engine.plan.size import size
from ssl_cli.errors import DataError
from ssl_cli.events import Encoded, Evaluated, Event, Pictured, Tile
from ssl_cli.names import shown
from ssl_cli.planning.timing import seconds_for
from ssl_cli.sheet import write_picture

LISTED = 1000
"""Bad files that the result lists."""
TILES, TILE = 6, 128
"""Images in a row of the sheet, and the side of each in pixels."""
IMBALANCED = 10
"""Times that the largest class has the images of the smallest, from which on a note says what it means."""
MANY_COPIES = 0.01
"""Share of the images from which on copies are worth a note."""


def check(settings: Settings, sample: int, picture: Path | None = None) -> Iterator[Event]:
    """Yield the progress, and `Evaluated` with the result named `check`.

    Args:
        settings: of a pretraining run on the images.
        sample: images that are opened, at most; those of the test set are as many again.
        picture: PNG to draw the oddest images in; None: none is drawn.

    Raises:
        DataError: there are no images.
        UsageError: the picture would be among the images.
        ResourceError: it cannot be written.
    """
    source, test = open_pretraining(settings.data, settings.run.seed), open_own_test(settings.data, settings.run.seed)
    if picture is not None:
        refuse_among_images(picture, *settings.data.folders)
    settings, looked = measured(settings, source)
    if test is not None and settings.data.value_range is not None and hasattr(test, "value_range"):
        test.value_range = settings.data.value_range
    surveys = [Survey(one, sample_of(len(one), sample)) for one in (source, test) if one is not None]
    of, before = sum(len(survey.chosen) for survey in surveys), 0
    for survey in surveys:
        for done in survey.look(settings.data.threads):
            yield Encoded(done=before + done, of=of)
        before += len(survey.chosen)
    result = _result(settings, surveys, test)
    for name in ("range", "depth"):
        result[name] = next(({"value": c.value, "reason": c.reason} for c in looked if c.name == name), None)
    result["plan"] = _plan(settings, source)
    result["notes"] = _notes(result)
    result["sheet"] = None if picture is None else str(picture)
    if picture is not None and surveys[0].facts:
        rows = _oddest(surveys[0])
        yield from rows
        head = f"The oddest of {len(surveys[0].facts):,} images of {shown(source.name, 100)}"
        write_picture(picture, sheet.png(sheet.contact_sheet(head, rows, TILE)))
    yield Evaluated(name="check", result=result)


def _bad(survey: Survey) -> Iterator[dict[str, str]]:
    """Yield path and reason of folders that could not be opened, and of images that could not be read."""
    for event in getattr(survey.source, "skipped", ()):
        yield {"path": event.path, "reason": event.reason}
    for index in sorted(survey.bad):
        yield {"path": survey.source.path(index), "reason": survey.bad[index]}


def _result(settings: Settings, surveys: Sequence[Survey], test: Source | None) -> dict[str, Any]:
    first = surveys[0]
    source, files = first.source, [file for survey in surveys for file in _bad(survey)]
    splits = [split for one in (source, test) for split in getattr(one, "splits", ())]
    bad = {
        "images": sum(len(survey.bad) for survey in surveys), "too_many": any(survey.too_many for survey in surveys),
        "files": files[:LISTED],
    }  # fmt: skip
    facts = [one for survey in surveys for one in survey.listed()]
    return {
        "data": source.name,
        "places": list(settings.data.places),
        "images": len(source),
        "looked_at": len(first.chosen),
        "passed_over": list(getattr(source, "notes", ())),
        "splits": list(dict.fromkeys(splits)),
        "test": None if test is None else {"data": test.name, "images": len(test), "looked_at": len(surveys[1].chosen)},
        **(described(facts) if facts else {}),
        **copied(surveys),
        "classes": balance(source),
        "groups": grouping(source, test),
        "bad": bad,
    }


def _plan(settings: Settings, source: Source) -> dict[str, Any] | None:
    """Return what pretraining would choose for these images here; None: they are too few."""
    if len(source) < 2:
        return None
    sized = size(settings, len(source), source, local_device(settings.hardware.device))
    chosen, (seconds, _) = sized.settings, seconds_for(settings, len(source))
    timed = "schedule.epochs" in settings.run.fit
    epochs = round(chosen.schedule.epochs, 0 if timed and chosen.schedule.epochs >= 10 else 2)
    warnings = list(sized.warnings)
    if chosen.run.batch > len(source):
        warnings.append(f"The batch is larger than the {len(source):,} images: pretrain needs --batch {len(source)}.")
    return {
        "method": chosen.method.name,
        "recipe": chosen.run.recipe,
        "network": chosen.model.title,
        "size": chosen.data.size,
        "batch": chosen.run.batch,
        "epochs": epochs,
        "seconds": seconds if timed else None,
        "reason": next((choice.reason for choice in sized.choices), "given"),
        "warnings": warnings,
        "words": (
            f"{chosen.method.name}, recipe {chosen.run.recipe}: {chosen.model.title}, views of {chosen.data.size} "
            f"pixels, batch {chosen.run.batch:,}, {'about ' * timed}{format_epochs(epochs)} "
            f"epochs{f' in {format_seconds(seconds)}' * timed}"
        ),
    }


def _notes(result: dict[str, Any]) -> list[str]:
    """Return what is worth knowing before training, in sentences."""
    found, again = [], [result["copies"], result["alike"]]
    classes, groups, images = result["classes"], result["groups"], result["looked_at"]
    if between := sum(of["between_splits"] for of in again):
        found.append(
            f"{_images(between)} both among the training and the test images, or nearly the same: accuracy on these is "
            "too high. Remove them from one of the two."
        )
    if result["copies"]["images"] >= max(MANY_COPIES * images, 2):
        found.append("Training takes equal files for different images, each a negative of the other: keep one of each.")
    if mixed := sum(of["between_classes"] for of in again):
        found.append(f"{_images(mixed)} in several classes at once: their labels contradict each other.")
    if classes and classes["most"] >= IMBALANCED * classes["least"]:
        times = f"{classes['most'] / classes['least']:,.0f}"
        found.append(
            f"The largest class has {times} times the images of the smallest: top-1 says little of the smallest. "
            "knn-eval lists the accuracy of each class."
        )
    if groups and groups["in_both"]:
        found.append(f"{groups['in_both']:,} of the groups are in the test images too: accuracy on these is too high.")
    if result.get("one_colour"):
        found.append(f"{_images(result['one_colour'])} of one colour: there is nothing to learn from them.")
    return found


def _images(count: int) -> str:
    return f"{count:,} images are" if count != 1 else "1 image is"


def _oddest(survey: Survey) -> list[Pictured]:
    """Return rows of the images that stand out, read again."""
    facts = dict(survey.facts)

    def row(name: str, key: Callable[[Facts], float], words: Callable[[Facts], str]) -> Pictured:
        chosen = sorted(facts, key=lambda index: (key(facts[index]), index))[:TILES]
        return Pictured(name=name, tiles=tuple(_tile(survey.source, k, words(facts[k])) for k in chosen))

    kinds = Counter(map(_kind, facts.values()))
    return [
        row("smallest", lambda of: of.width * of.height, _sides),
        row("largest", lambda of: -of.width * of.height, _sides),
        row("longest", lambda of: -of.aspect, lambda of: f"{_sides(of)}, {of.aspect:.2f} to 1"),
        row("darkest", lambda of: of.mean, lambda of: f"mean {of.mean:.3f}"),
        row("brightest", lambda of: -of.mean, lambda of: f"mean {of.mean:.3f}"),
        row("lowest contrast", lambda of: of.contrast, lambda of: f"standard deviation {of.contrast:.3f}"),
        row("rarest kinds", lambda of: kinds[_kind(of)], lambda of: ", ".join(_kind(of))),
    ]


def _sides(of: Facts) -> str:
    return f"{of.width} x {of.height}"


def _kind(of: Facts) -> tuple[str, str, str]:
    return of.format, of.mode, of.kind


def _tile(source: Source, index: int, words: str) -> Tile:
    try:
        image = source.read(index, TILE)
    except DataError:  # it has changed meanwhile
        image = torch.zeros(1, 1, 1, dtype=torch.uint8)
    return sheet.tile(shown(os.path.basename(source.path(index)), 13), image, words)  # noqa: PTH119
