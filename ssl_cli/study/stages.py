"""Plan the arms that start from another arm's run: linear probe, fine-tuning, distillation."""

from collections.abc import Iterable, Mapping, Sequence

from ssl_cli.config.labels import parse_labels
from ssl_cli.config.recipe import family_of, recipe_file
from ssl_cli.config.start import FEW_LABELS_EPOCHS
from ssl_cli.config.toml_file import nest
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_evaluation
from ssl_cli.planning.stages import VIEWS
from ssl_cli.study.arm import LINEAR, Arm
from ssl_cli.study.book import FIXED, Planned
from ssl_cli.study.budget import Cost
from ssl_cli.study.simclr_v2 import DISTILL, FINETUNE

WARMUP = 0.1
"""Share of the epochs of a student."""
FORWARD = 1 / 3
"""Time of a forward pass, in that of a step on as many views."""
MACHINE = ("threads", "cache", "cache_folder", "download", "on_bad_image")
"""Data settings of the pretrained run that its classifiers share."""


def labelled(arms: Iterable[Arm], settings: Settings) -> dict[str, int]:
    """Count the images that each of these arms learns from by their labels; none is held out to measure with.

    A student counts those of its teacher.

    Raises:
        NoLabelsError: there are no labels, or those of one class.
    """
    found, counts = dict[str, int](), dict[str, int]()
    for arm in arms:
        labels = arm.settings.get("data.labels")
        if labels is None:
            found[arm.name] = found[arm.start]
            continue
        if labels not in counts:
            images = open_evaluation(settings.data, settings.run.seed, split="validation", labels=labels)
            counts[labels] = len(images.bank)
        found[arm.name] = counts[labels]
    return found


class Stages:
    """What the arms that start from another one's run cost, and how they are run.

    Args:
        arms: all of the study.
        settings: of a run of pretraining.
        data: as the study was asked for.
    """

    def __init__(self, arms: Sequence[Arm], settings: Settings, data: str | None) -> None:
        self.arms = {arm.name: arm for arm in arms}
        self.after = [arm for arm in arms if arm.start]
        self.counts, self.data = labelled(self.after, settings), data

    def most(self, arm: Arm) -> float:
        """Return the epochs of an arm's recipe, which are enough; of distillation there is no such number."""
        if arm.method == DISTILL:
            return float("inf")
        if parse_labels(arm.settings["data.labels"]).few:
            return FEW_LABELS_EPOCHS
        return float(recipe_file(FINETUNE, family_of(self.data)).values["schedule.epochs"])

    def epochs(self, arm: Arm, unit: float, images: int) -> float:
        """Return the epochs of a classifier's training where those of pretraining are `unit`."""
        return min(max(arm.share * unit * images / self._trains_on(arm, images), 1.0), self.most(arm))

    def cost(self, arm: Arm, rates: Mapping[str, float], images: int, overhead: float, encoded: float) -> Cost:
        """Return what a run of an arm takes.

        Args:
            arm: one that starts from another one's run.
            rates: images per second of pretraining, by arm.
            images: to pretrain on.
            overhead: seconds before and after training.
            encoded: images encoded in the time that one is pretrained on.
        """
        rate = rates[self.first(arm)]
        if arm.method == LINEAR:
            return Cost(arm.name, 0.0, 0.0, overhead + self.counts[arm.name] / (encoded * rate))
        seconds = 1 / (VIEWS * rate)
        if arm.method == DISTILL:  # of the student, which is smaller by as much, and a forward pass of the teacher
            seconds = 1 / (VIEWS * rates[student]) if (student := self._alike(arm, rates)) else seconds
            seconds += FORWARD / (VIEWS * rate)
        count = self._trains_on(arm, images)
        most = self.most(arm) * count * seconds
        return Cost(arm.name, arm.share * images * seconds, min(count * seconds, most), overhead, most)

    def first(self, arm: Arm) -> str:
        """Return the arm whose pretraining an arm goes back to."""
        while arm.start:
            arm = self.arms[arm.start]
        return arm.name

    def _trains_on(self, arm: Arm, images: int) -> int:
        """Return the images of an epoch: those with labels, for a student all."""
        return images if arm.method == DISTILL else self.counts[arm.name]

    def _alike(self, arm: Arm, rates: Mapping[str, float]) -> str:
        """Return the pretrained arm that has the width of a student; empty where there is none."""
        width = arm.settings.get("model.width")
        return next((name for name in rates if self.arms[name].settings.get("model.width") == width), "")

    def planned(self, arm: Arm, before: Planned, unit: float, images: int) -> Planned:
        """Return an arm with the settings of its runs; `before` is the pretrained one that it goes back to."""
        own = {f"data.{name}": value for name, value in before.settings["data"].items() if name in MACHINE}
        settings = {**own, **arm.settings, "data.hold_out": True}
        if arm.method != LINEAR:
            epochs = self.epochs(arm, unit, images)
            settings |= {**FIXED, "run.fit": ["run.batch"], "schedule.epochs": epochs}
            settings |= {"schedule.warmup": WARMUP * epochs} if arm.method == DISTILL else {}
        table = {**nest(settings), "hardware": before.settings["hardware"]}
        counts = {"labelled": float(self.counts[arm.name])}
        return Planned(
            arm.name, arm.method, table, dict(arm.settings), arm.share, counts, start=arm.start, group=arm.group
        )
