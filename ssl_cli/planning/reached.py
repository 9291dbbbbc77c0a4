"""What the stages of a pipeline reached, read from the files that they wrote: a missing or damaged one is no error."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli import records, status
from ssl_cli.planning.stages import LINEAR, PRETRAIN, STAGES, Stage
from ssl_cli.records import json_of, number, table, whole
from ssl_cli.run_path import is_started

LINEAR_FILE = "linear.json"
SURE = 2.0
"""Standard errors from which on a difference is called one."""


def is_done(folder: Path, stage: Stage) -> bool:
    """Return whether a stage is complete, by its own status."""
    if stage is LINEAR:
        return stage_result(folder, stage).get("top1") is not None
    return status.state(folder / stage.name) == status.FINISHED


def has_run(folder: Path) -> bool:
    """Return whether a stage's folder holds a run, of which at least the status was written."""
    return bool(status.read(folder)) or is_started(folder)


@dataclass(frozen=True)
class Row:
    """What a stage reached; None where it is not known.

    Attributes:
        stage: which.
        top1: accuracy on the test images, a fraction.
        top5: likewise.
        test: number of test images.
        labelled: images that it was trained on with their labels.
        seconds: of all its processes, with its evaluation.
        parameters: of its network.
        classes: number of classes of the test images.
    """

    stage: Stage
    top1: float | None = None
    top5: float | None = None
    test: int | None = None
    labelled: int | None = None
    seconds: float | None = None
    parameters: int | None = None
    classes: int | None = None

    @property
    def at_chance(self) -> bool:
        """Return whether `top1` is within two standard errors of guessing, or below it."""
        error = self.error
        return error is not None and self.classes is not None and (self.top1 or 0.0) <= 1 / self.classes + SURE * error

    @property
    def error(self) -> float | None:
        """Return the standard error of `top1`."""
        if self.top1 is None or not self.test:
            return None
        return math.sqrt(self.top1 * (1 - self.top1) / self.test)


def reached(folder: Path) -> list[Row]:
    """Read the row of each stage."""
    return [row(folder, stage) for stage in STAGES]


def row(folder: Path, stage: Stage) -> Row:
    """Read what a stage reached from the files that it wrote; what is missing or damaged is None."""
    result = stage_result(folder, stage)
    if stage is LINEAR:
        seconds, parameters = result.get("seconds"), result.get("parameters")
    else:
        parameters = number(table(json_of(folder / stage.name / "plan.json"), "expected").get("parameters"))
        seconds, _ = timed(records.events(folder / stage.name))
    test, labelled = (whole(result.get(name)) for name in ("test", "train" if stage is LINEAR else "labelled"))
    top1, top5, classes = result.get("top1"), result.get("top5"), len(table(result, "per_class"))
    return Row(stage, top1, top5, test, labelled, seconds, whole(parameters), classes or None)


def stage_result(folder: Path, stage: Stage) -> dict[str, Any]:
    """Read the accuracy of a stage and how it was measured, as `records.result_in`; pretraining has none."""
    if stage is PRETRAIN:
        return {}
    file = folder / LINEAR_FILE if stage is LINEAR else folder / stage.name / "eval" / f"{stage.command}.json"
    return records.result_in(file)


def timed(events: Iterable[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Return the seconds of all processes of a run, each from its plan on, and the images per second of the last."""
    total, first, last, rate = 0.0, None, 0.0, None
    for event in events:
        if number(event.get("time")) is None:
            continue
        if first is None or event["event"] == "planned":
            total += 0.0 if first is None else max(last - first, 0.0)
            first = event["time"]
        last = event["time"]
        rate = number(event.get("rate")) if event["event"] == "finished" else rate
    return (None if first is None else total + max(last - first, 0.0)), rate
