"""Measure a run of a study on training images that are held out: the same ones for all arms of a seed."""

from pathlib import Path
from typing import Any

from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation, open_evaluation, open_pretraining
from ssl_cli.engine.evaluation.evaluate import TRAINED, knn_of
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.engine.evaluation.quality import label_free
from ssl_cli.errors import DivergedError, NoLabelsError
from ssl_cli.protocols.linear import linear_of
from ssl_cli.study.book import Book, Planned
from ssl_cli.study.table import study_named


def measure(run: Path, book: Book, arm: Planned) -> dict[str, Any]:
    """Return kNN and linear top-1 on held-out training images; without labels neighbour consistency and RankMe.

    The first arm's runs also give kNN of raw pixels and of the untrained network. Consistency is of the first arm's
    views for all arms. A representation that is not finite has no numbers, nor has a study of costs.
    """
    if study_named(book.asked.name).is_cost:
        return {}
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
        linear = linear_of(objective, settings, precision, images)
    except DivergedError:
        return {}
    return {"knn": knn["top1"], "linear": linear["top1"], "queries": knn["queries"], **knn["baselines"]}


def held_out(settings: Settings, book: Book) -> Evaluation:
    """Open the images to measure with: neither part holds a test image.

    Raises:
        NoLabelsError: there are no labels, or those of one class.
    """
    images = open_evaluation(settings.data, settings.run.seed, split="validation")
    return images.part(book.about.bank, book.about.queries, settings.run.seed)
