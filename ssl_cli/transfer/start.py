"""The settings of a run that starts from another: fine-tuning from an encoder, distillation from a classifier."""

from typing import Any

from ssl_cli import checkpoint
from ssl_cli.config.labels import fingerprint
from ssl_cli.config.resume import settings_of
from ssl_cli.config.sources import Settled
from ssl_cli.config.start import (
    Request,
    for_distilling,
    for_finetuning,
    require_layer,
    require_network,
    settle_from,
)
from ssl_cli.config.tree import DataSettings, Settings
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_pretraining, open_test
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import shown

ALL = "100%"


def settle_start(request: Request) -> Settled:
    """Return the settings of a new run: what it starts from, then what the command line and files change.

    Raises:
        CheckpointError: there is no such run.
        UsageError: it has no head of so many layers, or was never fine-tuned.
        DataError: the images do not have the labels asked for.
    """
    assert request.run is not None
    path, digest = checkpoint.locate(request.run)
    before = settings_of(checkpoint.load(path, digest)["settings"])
    data, model = request.flags.get("data", {}), request.flags.get("model", {})
    if request.name == "finetune":
        labels = settle_from(request, {"data.labels": ALL}).settings.data.labels
        values = {**for_finetuning(before, labels or ALL), "data.labels": ALL}
    else:
        values = for_distilling(before, request.run, model.get("backbone"))
    if data.get("source") is not None:  # other images, whose test images are others, too
        for key in ("data.source", "data.test", "data.limit", "data.group_by"):
            values.pop(key, None)
    values |= {"method.checkpoint": str(path.absolute()), "method.sha256": digest}
    settled = settle_from(request, values)
    if request.name == "finetune":
        require_network(settled.settings, before, request.run)
        require_layer(getattr(settled.settings.method, "from_layer", 0), before, request.run)
        settled = _with(settled, labels_sha256=fingerprint(settled.settings.data.labels))
        return _with(settled, classes=open_labelled(settled.settings)[0].classes)
    return _with_teacher(settled, before.data)


def _with(settled: Settled, **changed: Any) -> Settled:
    """Return the settings with other data settings."""
    data = settled.settings.data.model_copy(update=changed)
    return Settled(settled.settings.model_copy(update={"data": data}), settled.origins)


def open_labelled(settings: Settings) -> tuple[Source, Source]:
    """Open the images to train on by their labels, and the test images.

    Raises:
        DataError: there are fewer than two classes, the labels are not there, or the test images have none of these
            classes.
    """
    source = open_pretraining(settings.data, settings.run.seed)
    if len(source.classes) < 2:
        raise DataError(
            f"{shown(source.name)} has one class, and a classifier needs two.", "Give images of several classes."
        )
    test, _ = open_test(settings.data, settings.run.seed)
    if not set(test.classes) & set(source.classes):
        names = shown(", ".join(test.classes[:3]))
        what = f"The test images' classes ({names}, ...) are not among the training images'."
        raise DataError(what, "Both need folders of the same names.")
    return source, test


def _with_teacher(settled: Settled, teacher: DataSettings) -> Settled:
    """Return a student's settings: the teacher's classes, and where labels count those asked for, or the teacher's.

    Raises:
        UsageError: labels are given, and have no weight in the loss.
        DataError: the images do not have these labels, or the teacher does not know them.
    """
    settings = settled.settings
    alpha, labels = getattr(settings.method, "alpha", 1.0), settings.data.labels
    if alpha == 1:
        if labels is not None:
            what = "--labels has no effect where the teacher's outputs are all that counts."
            raise UsageError(what, "Pass --alpha 0.5 too, for half of the loss from the labels, or leave it out.")
        return _with(settled, classes=teacher.classes)
    labels = labels or teacher.labels or ALL
    counted = {"labels": labels, "labels_sha256": fingerprint(labels), "unlabelled": True}
    settled = _with(settled, classes=teacher.classes, **counted)
    open_pretraining(settled.settings.data, settings.run.seed)
    return settled
