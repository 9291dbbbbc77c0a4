"""Measure a run of a study on training images that are held out: the same ones for all arms of a seed."""

import time
from pathlib import Path
from typing import Any

from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation, open_evaluation, open_pretraining
from ssl_cli.engine.evaluation.classify import accuracy_of
from ssl_cli.engine.evaluation.evaluate import TRAINED, knn_of
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.engine.evaluation.quality import label_free
from ssl_cli.errors import DivergedError, NoLabelsError
from ssl_cli.protocols.linear import linear_of
from ssl_cli.study.arm import LINEAR
from ssl_cli.study.book import Book, Planned
from ssl_cli.study.table import study_named


def measure(run: Path, book: Book, arm: Planned) -> dict[str, Any]:
    """Return kNN and linear top-1 on held-out training images; without labels neighbour consistency and RankMe.

    The first arm's runs also give kNN of raw pixels and of the untrained network. Consistency is of the first arm's
    views for all arms. An arm that starts from another one's run gives the accuracy of its classifier, and so the
    others no linear one. A representation that is not finite has no numbers, nor has a study of costs.
    """
    if study_named(book.asked.name).is_cost:
        return {}
    if arm.start:
        return _classifier(run, book, arm)
    trained = open_run(str(run), book.about.device)
    settings, objective, precision = trained.settings, trained.objective, trained.precision
    first = book.arms[0]
    try:
        images = held_out(settings, book)
    except NoLabelsError:
        common = AugmentSettings.model_validate(first.settings["augment"])
        same = settings.model_copy(update={"augment": common})
        source = open_pretraining(settings.data, settings.run.seed)
        found = label_free(objective, same, precision, source, min(book.about.queries, len(source)))
        return {**found[TRAINED], "queries": found["images"]}
    try:
        knn = knn_of(objective, settings, precision, images, baselines=arm.name == first.name)
        found = {"knn": knn["top1"], "queries": knn["queries"], **knn["baselines"]}
        if any(other.start for other in book.arms):
            return found
        return {**found, "linear": linear_of(objective, settings, precision, images)["top1"]}
    except DivergedError:
        return {}


def _classifier(run: Path, book: Book, arm: Planned) -> dict[str, Any]:
    """Return the accuracy on the held-out images of a run's classifier, or of a linear probe of its encoder.

    Raises:
        NoLabelsError: there are no labels, or those of one class.
    """
    began, probed = time.monotonic(), arm.command == LINEAR
    trained = open_run(str(run), book.about.device, projector=not probed)
    settings, objective, precision = trained.settings, trained.objective, trained.precision
    if not probed:
        images = held_out(settings, book)
        found = accuracy_of(objective, settings, precision, images.queries, images.note)
        return {"classifier": found["top1"], "queries": found["test"]}
    images = open_evaluation(settings.data, settings.run.seed, "validation", arm.differs["data.labels"])
    images = images.part(len(images.bank), book.about.queries, settings.run.seed)
    try:
        found = linear_of(objective, settings, precision, images)
    except DivergedError:
        return {}
    return {"classifier": found["top1"], "queries": found["test"], "seconds": time.monotonic() - began}


def held_out(settings: Settings, book: Book) -> Evaluation:
    """Open the images to measure with: neither part holds a test image.

    Raises:
        NoLabelsError: there are no labels, or those of one class.
    """
    images = open_evaluation(settings.data, settings.run.seed, split="validation")
    return images.part(book.about.bank, book.about.queries, settings.run.seed)
