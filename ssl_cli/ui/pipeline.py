"""Show a pipeline: its stages before it starts, and the table of what they reached."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_cli.config.units import format_seconds
from ssl_cli.planning.reached import SURE, Row
from ssl_cli.planning.stages import DISTILL, FINETUNE, PRETRAIN, SCRATCH, STAGES, Asked, Stage
from ssl_cli.ui import report
from ssl_cli.ui.screen import Screen
from ssl_cli.ui.text import percent, safe

COLUMNS = ("", "top-1", "top-5", "time", "parameters")
UNKNOWN, LABEL = "-", 11
SAME = ": not distinguishable"
QUALITY = {"verdict", "kNN", "quality", "linear", "accuracy", "advice"}
"""Labels of the lines of a report that say how good a stage is."""


def title(stage: Stage) -> str:
    """Return the line above the display of a stage."""
    return f"{STAGES.index(stage) + 1}/{len(STAGES)}  {stage.name}: {stage.what}"


def outcome(stage: Stage, screen: Screen) -> Iterator[str]:
    """Yield what a stage's own command would say of its quality, to stand below its display."""
    for label, words in report.lines(stage.command, screen):
        if label in QUALITY:
            yield f"{label:<{LABEL}}{words}"


def plan(asked: Asked, folder: Path, images: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of a dry run; `images` are the fields of `ssl_cli.pipeline.Images`."""
    yield f"labels     {safe(asked.labels)}: {images['labelled']:,} images of {images['classes']:,} classes"
    yield f"test       {images['test']:,} images, read once at the end of each stage"
    yield f"folder     {safe(folder)}, a run in it for each stage"
    for stage in STAGES:
        seconds = asked.seconds(stage)
        yield f"{title(stage)}{'' if seconds is None else f' (about {format_seconds(seconds)})'}"
    if asked.time is not None:
        yield "From labels a stage takes the epochs of its recipe, or as many of them as its time allows."


def plan_document(asked: Asked, folder: Path, images: Mapping[str, int]) -> dict[str, Any]:
    """Return the plan of a dry run for a program."""
    rows = [
        {"name": stage.name, "what": stage.what, "out": str(folder / stage.name), "seconds": asked.seconds(stage)}
        for stage in STAGES
    ]
    return {"dry_run": True, "out": str(folder), "labels": asked.labels, **images, "stages": rows}


def lines(rows: Sequence[Row], asked: Asked, folder: Path) -> Iterator[str]:
    """Yield the table for people, what the differences mean, and the next command."""
    labelled = max(row.labelled or 0 for row in rows)
    test = max(row.test or 0 for row in rows)
    yield f"labels     {safe(asked.labels)}: {labelled:,} images, {test:,} test images"
    columns = [column for column in zip(COLUMNS, *map(_cells, rows), strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for first, *others in zip(*columns, strict=True):
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "   ".join((first.ljust(widths[0]), *padded)).rstrip()
    by_stage = {row.stage: row for row in rows}
    yield from _differences(by_stage)
    for row in (row for row in rows if row.at_chance):
        yield f"           {row.stage.row}: no better than guessing one of {row.classes} classes"
    best = _best(by_stage)
    if best is not DISTILL:
        yield f"best       {best.row}: the next command exports it"
    run = shlex.quote(safe(folder / best.name))
    yield f"next       sslcli export {run} --classifier -o classifier.onnx"


def _best(rows: Mapping[Stage, Row]) -> Stage:
    """Return the classifier of the highest top-1; the student, which is no larger, where none is surely better."""
    known = [row for stage in (DISTILL, FINETUNE, SCRATCH) if (row := rows[stage]).top1 is not None]
    best = max(known, key=lambda row: row.top1 or 0.0, default=rows[DISTILL])
    student = rows[DISTILL]
    return DISTILL if student.top1 is not None and _difference(best, student)[2] == SAME else best.stage


def _difference(one: Row, other: Row) -> tuple[float, float, str]:
    """Return the difference of two accuracies, its standard error, and `SAME` where they are not distinguishable."""
    difference, error = (one.top1 or 0.0) - (other.top1 or 0.0), math.hypot(one.error or 0.0, other.error or 0.0)
    return difference, error, "" if abs(difference) >= SURE * error else SAME


def _cells(row: Row) -> tuple[str, ...]:
    top1 = "" if row.stage is PRETRAIN else UNKNOWN
    if row.top1 is not None:
        top1 = percent(row.top1) + ("" if row.error is None else f" ± {100 * row.error:.1f}")
    return (
        row.stage.row,
        top1,
        "" if row.top5 is None else percent(row.top5),
        UNKNOWN if row.seconds is None else format_seconds(row.seconds),
        UNKNOWN if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
    )


def _differences(rows: dict[Stage, Row]) -> Iterator[str]:
    """Say by how much fine-tuning differs from training from scratch, and distillation from fine-tuning."""
    for stage, other in ((FINETUNE, SCRATCH), (DISTILL, FINETUNE)):
        one, two = rows[stage], rows[other]
        if one.top1 is None or two.top1 is None or one.error is None or two.error is None:
            continue
        difference, error, same = _difference(one, two)
        yield f"           {stage.row} against {other.row}: {100 * difference:+.1f} ± {100 * error:.1f} points{same}"


def document(rows: Sequence[Row], asked: Asked, folder: Path) -> dict[str, Any]:
    """Return the table for a program."""
    return {
        "out": str(folder),
        "labels": asked.labels,
        "rows": [
            {
                "name": row.stage.name, "top1": row.top1, "standard_error": row.error, "top5": row.top5,
                "test": row.test, "labelled": row.labelled, "seconds": row.seconds, "parameters": row.parameters,
                "out": str(folder / row.stage.name) if row.stage.command != "linear-eval" else None,
            }
            for row in rows
        ],
    }  # fmt: skip
