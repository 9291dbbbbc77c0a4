"""Accuracy of a classifier that training ended with, on the test images: read once, after the last step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ssl_cli import disk
from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_test
from ssl_cli.data.split import relabelled
from ssl_cli.engine.evaluation.features import encode
from ssl_cli.errors import DataError, SslcliError, convert_exception
from ssl_cli.events import Evaluated, Event, Warned, record
from ssl_cli.names import counted, shown
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import Objective, device_of
from ssl_cli.transfer.tally import Tally

LOGITS = "logits"


def classify(
    objective: Objective, settings: Settings, precision: str, source: Source, *, step: int, folder: Path
) -> Iterator[Event]:
    """Yield `Evaluated`, named as the method; it is also written to `eval/` of the run folder under that name.

    Errors, such as test images without labels, are a `Warned`: training is complete and saved.

    Args:
        objective: as it was trained; its `forward` gives logits.
        settings: of the run.
        precision: of the forward pass.
        source: the training images.
        step: the last one.
        folder: of the run.
    """
    name = settings.method.name
    try:
        found = accuracy_of(objective, settings, precision, *open_test(settings.data, settings.run.seed))
        result = {**found, **_trained_on(settings, source), "step": step}
        event = Evaluated(step=step, name=name, result=result)
        disk.make_folder(folder / "eval")
        disk.write_json(folder / "eval" / f"{name}.json", {**record(event), "checkpoint": f"step {step}"})
        yield event
    except (SslcliError, MemoryError, RuntimeError, OSError) as error:
        converted = convert_exception(error)
        yield Warned(step=step, message=f"The accuracy was not measured: {converted.message}", hint=converted.hint)


def accuracy_of(objective: Objective, settings: Settings, precision: str, queries: Source, note: str) -> dict[str, Any]:
    """Measure top-1, top-5 and the accuracy of each class on the test images.

    Images of classes that the classifier has no logit for count as wrong; the result's note has their number.

    Raises:
        DataError: all are of such classes.
    """
    classes, device = settings.data.classes, device_of(objective)
    queries = relabelled(queries, classes)
    if not bool(((queries.labels >= 0) & (queries.labels < len(classes))).any()):
        what = f"No test image is of a class that was learned: {shown(', '.join(classes[:4]))}."
        raise DataError(what, "Give test images of these classes with --test-data.")
    with evaluating(objective):
        rows = encode({LOGITS: objective}, queries, settings, device=device, precision=precision)
    logits = rows.h[LOGITS]
    padded = F.pad(logits, (0, len(queries.classes) - len(classes)), value=-torch.inf)
    tally = Tally(len(queries.classes), confusion=False)
    tally.add(padded, rows.label)
    notes = [note]
    unknown = set(queries.classes[len(classes) :])
    notes += [f"not among the classes that were learned: {counted(len(unknown), 'class')}"] if unknown else []
    notes += [f"left out: {counted(rows.skipped, 'image')} that cannot be read"] if rows.skipped else []
    return {
        **tally.accuracies(),
        "test": len(rows.label),
        "per_class": {name: of for name, of in tally.per_class(queries.classes).items() if name in classes},
        "note": "; ".join(notes),
    }


def _trained_on(settings: Settings, source: Source) -> dict[str, Any]:
    """Return how many images were trained on, and how many labels."""
    method = settings.method.model_dump()
    names = ("run", "from_layer") if "from_layer" in method else ("run", "temperature", "alpha")
    own: dict[str, Any] = {name: method[name] for name in names}
    labels = int((source.labels >= 0).sum()) if settings.data.labels is not None else 0
    return {"labels": settings.data.labels, "labelled": labels, "train": len(source), **own}
