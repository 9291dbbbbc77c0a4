"""What training and its evaluation showed, in plain words: whether it was worth it, if not why, and what to do next.

Pure functions of numbers: a run, `knn-eval` and `linear-eval` give the same advice for the same numbers.
"""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ssl_cli.names import counted, shown
from ssl_cli.records import number, share, table

if TYPE_CHECKING:  # pydantic takes long to import
    from ssl_cli.config.tree import Settings

FEW_STEPS, TOO_FEW_STEPS = 100, 500
"""Steps below which hardly anything is learnt; and that explain a result below those without training."""
SMALL_GAIN, LITTLE_ROOM = 0.05, 0.9
"""Gain over the untrained network that is hardly one; and that network's share, above which no more can be asked."""
EASY, NEAR_CHANCE = 0.97, 10
"""Contrastive top-1 in the first third that is near 100 %; top-1 over that of chance, up to which it is near chance."""
STILL_FALLING = 0.1
"""Share of the whole fall of the loss that the last third of a schedule has where it ended too soon."""
STRONG_CROP, WIDE_CROP = 0.4, 0.1
"""Smallest area of a crop, below which `--gentle` changes it; and up to which there are no stronger ones to ask for."""
TOO_EASY, HARD = 0.9, 0.08
"""Shares of views that colours or low-resolution pixels match: from which on, and up to which, it is said. With the
recipes for small images 0.1 to 0.3 of the embedded set, CIFAR-10 and photographs are matched, with `--gentle` 0.5 to
0.75."""
NAMES = {"pixels": "raw pixels", "untrained": "the same network untrained"}
STARTED = "the network as it started"
"""What `untrained` is of a run that started from weights."""


@dataclass(frozen=True)
class Point:
    """A logged step: its loss, the loss of chance, and contrastive top-1; None where the method has none."""

    step: int
    loss: float
    chance: float | None = None
    top1: float | None = None


@dataclass(frozen=True)
class Training:
    """What is known of the training of an encoder.

    Attributes:
        step: steps taken.
        steps: of the whole schedule; 0 if unknown.
        epochs: of the whole schedule.
        crop: smallest area of a crop, as a fraction.
        flip: probability of a flip.
        batch: images per step.
        loss_scale: factor of loss and chance.
        points: what was logged, in order.
        run: its folder; empty if it is unknown.
        data: the words of a command line that name data and method.
        started: whether it started from weights.
    """

    step: int
    steps: int = 0
    epochs: float = 1
    crop: float = 1.0
    flip: float = 0.0
    batch: int = 0
    loss_scale: float = 1.0
    points: tuple[Point, ...] = ()
    run: str = ""
    data: str = ""
    started: bool = False


@dataclass(frozen=True)
class Score:
    """A share from 0 to 1, higher is better, of `asked` images, and the same of `baselines` without training.

    A value is below a baseline if it is by more than `slack` and by more than the standard error of the measurement.
    """

    name: str
    value: float
    asked: int = 0
    baselines: Mapping[str, float] = field(default_factory=dict)
    slack: float = 0.0

    @property
    def error(self) -> float:
        """Return the standard error of the value; 0 if the number of images is unknown."""
        return math.sqrt(self.value * (1 - self.value) / self.asked) if self.asked else 0.0

    def below(self) -> dict[str, float]:
        """Return the baselines that the value is below."""
        return {k: v for k, v in self.baselines.items() if self.value < v - max(self.slack, self.error)}

    def near(self) -> dict[str, float]:
        """Return the baselines, above the value and below, from which it is not distinguishable."""
        within = {k: v for k, v in self.baselines.items() if self.asked and abs(v - self.value) <= self.error}
        return {k: v for k, v in within.items() if not 0 < v - self.value <= self.slack}


@dataclass(frozen=True)
class Advice:
    """A sentence or two, the commands that may help, and whether training did harm; empty: there is nothing to say."""

    message: str = ""
    commands: tuple[str, ...] = ()
    worse: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {"message": self.message, "next": list(self.commands), "worse": self.worse}


def training_of(
    settings: "Settings", step: int, steps: int, run: str = "", logged: Iterable[Mapping[str, Any]] = ()
) -> Training:
    """Describe the training of a run by its settings and its logged steps; see `records.logged_steps`."""
    views, data, method = settings.views, settings.data, settings.method.name
    used = {*views.order, *(views.second or ())}
    source = [shlex.quote(shown(place)) for place in data.places if place != "shapes"]
    words = [*source, *([] if method == "simclr" else ["--method", shlex.quote(shown(method))])]
    if settings.model.init_from:
        words += ["--init-from", shlex.quote(shown(settings.model.init_from))]
    return Training(
        step=step, steps=steps, epochs=settings.schedule.epochs, batch=settings.run.batch,
        crop=views.crop.scale[0], flip=views.flip.p if "flip" in used else 0.0,
        loss_scale=settings.method.loss_scale, points=points_of(logged), run=run, data=" ".join(words),
        started=settings.model.init_from is not None,
    )  # fmt: skip


def baseline_name(name: str, *, started: bool) -> str:
    """Return a baseline in words; `started`: of a run that started from weights."""
    return STARTED if started and name == "untrained" else NAMES.get(name, name)


def points_of(logged: Iterable[Mapping[str, Any]]) -> tuple[Point, ...]:
    """Return what a verdict needs of logged steps; those whose loss is not finite are left out."""
    found = []
    for event in logged:
        if (loss := number(event.get("loss"))) is not None:
            chance, top1 = number(event.get("chance")), share(table(event, "numbers").get("top1"))
            found.append(Point(event["step"], loss, chance, top1))
    return tuple(found)


def advise(training: Training, score: Score | None = None) -> Advice:
    """Conclude from a training, and a score of its encoder if there is one, what to do next.

    The first that applies: the encoder is below a baseline, or not distinguishable from one that is above it; too few
    steps; not distinguishable from one that is below it; hardly better than untrained; the task was too easy or too
    hard; the loss was still falling.
    """
    near = score.near() if score is not None else {}
    if score is not None and score.below():
        return _below(training, score)
    if score is not None and any(other > score.value for other in near.values()):
        return _near(training, score, near)
    cut = 0 < training.step < training.steps
    if training.steps and training.steps < FEW_STEPS and not cut:
        what = f"Only {counted(training.steps, 'step')}: too few to learn much. Train for more epochs"
        return Advice(f"{what}, or take a smaller batch: more steps, with fewer negatives each.", _longer(training))
    if score is not None and any(other < LITTLE_ROOM for other in near.values()):
        return _near(training, score, near)
    easy, hard = too_easy(training), too_hard(training)
    untrained = score.baselines.get("untrained") if score else None
    if score is not None and untrained is not None and score.value - untrained < SMALL_GAIN and untrained < LITTLE_ROOM:
        points = 100 * (score.value - untrained)
        network = STARTED if training.started else "the untrained network"
        what = f"{score.name} moved by only {points:+.1f} points against {network}: not much was learnt."
        why = easy or hard or "Train for longer, or look at the views."
        return Advice(f"{what} {why}", (*_remedy(training), *_inspect(training)) if easy or hard else _longer(training))
    if easy or hard:
        return Advice(easy or hard, _remedy(training))
    if not cut and still_falling(training):
        what = "The loss was still falling when the schedule ended: a longer --time, or more --epochs, would give more."
        return Advice(what, _longer(training))
    return Advice()


def too_easy(training: Training) -> str:
    """Return a sentence where contrastive top-1 was near 100 % in the first third of the schedule, else nothing."""
    steps = training.steps or training.step
    first = [p.top1 for p in training.points if p.top1 is not None and p.step <= steps / 3][-3:]
    if len(first) < 3 or fmean(first) < EASY:
        return ""
    remedy = "Stronger crops" if training.crop > WIDE_CROP else "Stronger colour jitter or a larger --batch"
    return (
        f"The task was too easy: contrastive top-1 was {100 * fmean(first):.0f} % in the first third of the run. "
        f"{remedy} would make it learn more."
    )


def too_hard(training: Training) -> str:
    """Return a sentence where contrastive top-1 was near chance at the end, else nothing."""
    last = [p for p in training.points if p.top1 is not None and p.chance is not None][-3:]
    if len(last) < 3 or training.step < FEW_STEPS:
        return ""
    top1 = fmean(p.top1 or 0.0 for p in last)
    chance = math.exp(-min(p.chance or 0.0 for p in last) / training.loss_scale)
    if top1 > min(NEAR_CHANCE * chance, 0.5):
        return ""
    return (
        f"The task was too hard, or the run too short: contrastive top-1 stayed near chance ({100 * top1:.1f} %). "
        "Gentler views or a longer run may help."
    )


def still_falling(training: Training) -> bool:
    """Return whether the last third of the schedule had more than its part of the whole fall of the loss."""

    def mean(low: float, high: float) -> float | None:
        found = [p.loss for p in training.points if low * training.steps < p.step <= high * training.steps]
        return fmean(found) if found else None

    first, middle, last = mean(0, 0.1), mean(0.6, 0.7), mean(0.9, 1)
    if first is None or middle is None or last is None or first <= last:
        return False
    return middle - last > STILL_FALLING * (first - last)


def views_note(colour: float, pixels: float, images: int) -> str:
    """Say in a sentence whether the views of `images` images look too easy or too hard to match, and by which shares.

    Args:
        colour: share of first views whose nearest second view by histograms of colour is their own.
        pixels: the same by pixels at low resolution.
        images: that were compared; 1 / images is chance.
    """
    if images < 8:
        return f"Of {images} images that says nothing: 8 or more do."
    hard = max(HARD, 2 / images)
    if max(colour, pixels) >= TOO_EASY:
        what = "colours" if colour >= pixels else "pixels at low resolution"
        remedy = "stronger colour jitter or more gray" if colour >= pixels else "stronger crops"
        return f"Looks too easy: where {what} match views, a network need not learn what is in them. Try {remedy}."
    if max(colour, pixels) <= hard:
        return f"Looks hard: that is near chance ({100 / images:.1f} %). Where training learns little, try --gentle."
    return f"Neither too easy (either {100 * TOO_EASY:.0f} % or more) nor hard (both {100 * hard:.1f} % or less)."


def _below(training: Training, score: Score) -> Advice:
    """Say that the encoder is below a baseline, why that is likely, and which commands may help."""
    listed = " and than ".join(_listed(training, score.below()))
    message = f"Worse than {listed}: {score.name} of this encoder is {100 * score.value:.1f} %. {_why(training)}"
    return Advice(message, _remedy(training) or _longer(training) or _inspect(training), worse=True)


def _near(training: Training, score: Score, near: Mapping[str, float]) -> Advice:
    """Say that the encoder is not distinguishable from baselines, why that is likely, and what may help."""
    listed = " and from ".join(_listed(training, near))
    what = f"{score.name} of this encoder, {100 * score.value:.1f} % ± {100 * score.error:.1f}"
    message = f"{what}, is not distinguishable from {listed} on {score.asked:,} images. {_why(training)}"
    return Advice(message, _remedy(training) or _longer(training) or _inspect(training))


def _listed(training: Training, baselines: Mapping[str, float]) -> Iterator[str]:
    for name, value in sorted(baselines.items(), key=lambda item: -item[1]):
        yield f"{baseline_name(name, started=training.started)} ({100 * value:.1f} %)"


def _why(training: Training) -> str:
    causes = list(_causes(training))
    return f"Likely: {'; '.join(causes)}." if causes else "Look at the views: they may hide what matters here."


def _causes(training: Training) -> Iterator[str]:
    if 0 < training.step < training.steps:
        yield f"the schedule was cut short at step {training.step:,} of {training.steps:,}"
    elif 0 < training.steps < TOO_FEW_STEPS:
        yield f"only {training.steps:,} steps, which is too few"
    if too_easy(training):
        yield "the task was too easy (contrastive top-1 near 100 % from the first third)"
    elif _is_strong(training):
        crops = f"crops down to {100 * training.crop:.0f} % of a picture" if training.crop < STRONG_CROP else ""
        strong = " and ".join(filter(None, (crops, "flips" if training.flip else "")))
        yield f"{strong} may be too strong for these pictures"
    if too_hard(training):
        yield "the task was too hard (contrastive top-1 stayed near chance)"


def _remedy(training: Training) -> tuple[str, ...]:
    """Return the commands for what was wrong: the rest of a schedule, gentler or stronger views."""
    commands = []
    if 0 < training.step < training.steps and training.run:
        commands.append(f"sslcli pretrain --resume --out {shlex.quote(shown(training.run))}")
    elif 0 < training.steps < TOO_FEW_STEPS:
        commands += _longer(training)
    again = " ".join(filter(None, ("sslcli pretrain", training.data)))
    if too_easy(training):
        wide = "--set 'augment.crop.scale=[0.08, 1]'"
        commands.append(f"{again} {wide if training.crop > WIDE_CROP else f'--batch {2 * training.batch}'}")
    elif _is_strong(training):
        commands.append(f"{again} --gentle")
    return tuple(commands)


def _longer(training: Training) -> tuple[str, ...]:
    if not training.run:
        return ()
    more = math.ceil(training.epochs * max(2, 3 * FEW_STEPS / max(training.steps, 1)))
    return (f"sslcli pretrain --resume --out {shlex.quote(shown(training.run))} --epochs {more}",)


def _inspect(training: Training) -> tuple[str, ...]:
    return (" ".join(filter(None, ("sslcli inspect-augs", training.data))),)


def _is_strong(training: Training) -> bool:
    return training.crop < STRONG_CROP or training.flip > 0
