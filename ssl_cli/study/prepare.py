"""Plan a study: one network for all arms, the batch that suits each method, and what its time is enough for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli import memory
from ssl_cli.config.images import with_absolute_paths
from ssl_cli.config.toml_file import flatten
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import require_batch
from ssl_cli.data.measured import measured
from ssl_cli.data.source import Source, described
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_objective, resolve_device
from ssl_cli.engine.plan.budget import budget
from ssl_cli.engine.plan.measure import choose_arithmetic
from ssl_cli.engine.plan.plan import Plan, make_plan
from ssl_cli.engine.plan.size import SUITED, size
from ssl_cli.errors import ResourceError
from ssl_cli.planning.queue import cap_queue
from ssl_cli.planning.size import batch_for, values_of
from ssl_cli.registry import is_library_backbone
from ssl_cli.study.arm import Arm, Given
from ssl_cli.study.book import About, Asked, Book, Planned
from ssl_cli.study.budget import Cost, divide
from ssl_cli.study.stages import Stages
from ssl_cli.study.table import Study, chosen, methods_of, study_named

START, PLANNING, FITTING = 6.0, 6.0, 3.0
"""Seconds until a process trains: imports; and its plan, which counts as time of a run that has a time. And those of
kNN and of the linear probe, without encoding."""
SAFETY = 0.9
"""Share of the time that is planned where arms train equally long: a plan's throughput is an estimate."""
ENCODED, EVALUATED = 2.0, 0.15
"""Images encoded in the time that one is trained on, all encodings for a run counted; and share of a run's time."""
FEWEST, BANK, QUERIES = 600, 10_000, 2_000
"""Images to measure with: at least, in all; and at most."""
ENOUGH = 10**15
"""Bytes within which any arm can be planned."""
WARMUP, OPEN = 0.1, ("schedule.epochs", "schedule.warmup")
CHEAP = ("augment.", "schedule.", "optim.", "run.time", "method.temperature", "method.ema")
"""Settings that hardly change the time of a step."""


@dataclass(frozen=True)
class Trial:
    """An arm with its settings, and the plan of a run of it; `fits` within the memory or does not."""

    arm: Arm
    settings: Settings
    plan: Plan
    fits: bool = True

    @property
    def rate(self) -> float:
        """Return the images per second that the plan expects."""
        return float(self.plan.expected["rate"])

    def cost(self, study: Study, images: int, overhead: float) -> Cost:
        """Return what a run takes for each second, or for each epoch, of an arm whose share is 1."""
        steps = study.steps * self.settings.run.batch / self.rate
        if study.equal == "time":
            return Cost(self.arm.name, self.arm.share, steps + PLANNING, overhead)
        return Cost(self.arm.name, self.arm.share * images / self.rate, steps, overhead + PLANNING)


def prepare(asked: Asked) -> Book:
    """Plan every arm of a study on these images and this machine; return its book, without results.

    Raises:
        UsageError: settings that are not valid, or a time that is too short; the hint says for what it is enough.
        DataError: no images, fewer than a batch, or no labels that an arm needs.
        ResourceError: an arm would not fit the memory.
    """
    study = study_named(asked.name)
    methods = methods_of(study, asked.methods)
    of_method = {name: asked.settled(name, {}).settings for name in methods}
    first = of_method[methods[0]]
    source = open_pretraining(first.data, first.run.seed)
    images = len(source)
    ending = ("normalize",) if "normalize" in first.augment.order else ()
    before = {name: _batch(settings, images) for name, settings in of_method.items()}
    arms = chosen(study.arms(Given(images, methods, before, ending, _width(first))), asked.arms)
    stages, shares = Stages(arms, first, asked.data), sum(arm.share for arm in arms)
    slot = asked.time / (asked.seeds * shares)
    sized = {name: _sized(settings, slot, source) for name, settings in of_method.items()}
    common = _pinned(sized[methods[0]])
    batches = {name: settings.run.batch for name, settings in sized.items()}
    width = common.get("model.width")
    arms = chosen(study.arms(Given(images, methods, batches, ending, width)), asked.arms)
    trials = _trials(asked, [arm for arm in arms if not arm.start], common, batches, slot, source, study)
    run = [trial for trial in trials if trial.fits]
    bank, queries = _measured(slot * shares / len(arms), min(trial.rate for trial in run), images)
    measuring = FITTING + (bank + queries) / (ENCODED * min(trial.rate for trial in run))
    costs = [trial.cost(study, images, START + measuring * (not study.is_cost)) for trial in run]
    rates, overhead = {trial.arm.name: trial.rate for trial in trials}, START + PLANNING + measuring
    costs += [stages.cost(arm, rates, images, overhead, ENCODED) for arm in stages.after]
    unit = divide((1.0 if study.equal == "time" else SAFETY) * asked.time, costs, asked.seeds)
    about = About(
        equal=study.equal, unit=unit, images=images, network=_network(trials[0].settings),
        memory=common["hardware.memory"],
        bank=bank, queries=queries, device=common["hardware.device"],
        seconds=asked.seeds * sum(cost.seconds(unit) for cost in costs),
    )  # fmt: skip
    planned = {trial.arm.name: _planned(asked, trial, common, study.equal, unit) for trial in trials}
    later = [stages.planned(arm, planned[stages.first(arm)], unit, images) for arm in stages.after]
    return Book(asked, about, (*planned.values(), *later))


def _width(settings: Settings) -> float | None:
    """Return the width of the network before it is sized; None where it has none that can be changed."""
    return None if is_library_backbone(settings.model.backbone) else settings.model.width


def _network(settings: Settings) -> str:
    """Return the network of all arms in words."""
    return f"{settings.model.title}, {settings.data.size} pixels"


def _batch(settings: Settings, images: int) -> int:
    """Return a batch that suits so many images, if it is open; before the time is looked at."""
    return batch_for(images, settings.run.batch) if "run.batch" in settings.run.fit else settings.run.batch


def _sized(settings: Settings, seconds: float, source: Source) -> Settings:
    """Return the settings with the network, image size and batch that suit a run of so many seconds."""
    run = settings.run.model_copy(update={"time": seconds})
    device = resolve_device(settings.hardware.device)
    return size(settings.model_copy(update={"run": run}), len(source), source, device).settings


def _pinned(settings: Settings) -> dict[str, Any]:
    """Return what all arms share, by dotted key: network, views, device, arithmetic and bytes of memory."""
    model, hardware, side = settings.model, settings.hardware, settings.data.size
    device = resolve_device(hardware.device)
    limit, _ = budget(hardware.memory, device, memory.resident())
    objective = build_objective(settings, device)
    arithmetic, _ = choose_arithmetic(objective, side, device, hardware.precision, hardware.memory_format)
    width = {} if _width(settings) is None else {"model.width": model.width}
    views: dict[str, Any] = {key: value for key, value in values_of(settings).items() if key in SUITED}
    return {
        "model.backbone": model.backbone, **width, **views, "data.size": side, "hardware.device": str(device),
        "hardware.precision": arithmetic.precision, "hardware.memory_format": arithmetic.memory_format,
        "hardware.memory": limit, "schedule.resolution": settings.schedule.resolution or (1.0, 1.0),
    }  # fmt: skip


def _trials(
    asked: Asked,
    arms: Sequence[Arm],
    common: Mapping[str, Any],
    batches: Mapping[str, int],
    slot: float,
    source: Source,
    study: Study,
) -> list[Trial]:
    """Plan a run of each arm; arms that differ only in what hardly changes the time of a step share a plan.

    In a study of costs an arm may need more memory than there is: it is planned for as much as it takes.
    """
    plans, found = dict[str, Plan](), list[Trial]()
    for arm in arms:
        more = {"run.batch": batches[arm.method], **common, **arm.settings, "run.time": arm.share * slot}
        settings = asked.settled(arm.method, {**more, "run.fit": OPEN}).settings
        key = repr(sorted((k, v) for k, v in flatten(settings.model_dump()) if not k.startswith(CHEAP)))
        fits = True
        try:
            plans[key] = plan = plans.get(key) or _plan(settings, source)
        except ResourceError:
            if not study.is_cost:
                raise
            fits, hardware = False, settings.hardware.model_copy(update={"memory": ENOUGH})
            plan = _plan(settings.model_copy(update={"hardware": hardware}), source)
        found.append(Trial(arm, settings, plan, fits))
    return found


def _plan(settings: Settings, source: Source) -> Plan:
    settings, _ = cap_queue(measured(settings, source)[0], len(source))
    require_batch(source.name, len(source), settings.run.batch)
    objective = build_objective(settings, resolve_device(settings.hardware.device), len(source), source=source)
    return make_plan(settings, objective, len(source), described(source), source, Path())


def _measured(slot: float, rate: float, images: int) -> tuple[int, int]:
    """Return how many images a run is measured with, bank and queries: a part of its time, the same for all runs."""
    count = int(min(max(EVALUATED * slot * ENCODED * rate, FEWEST), BANK + QUERIES, images))
    queries = min(max(count // 4, 1), QUERIES)
    return max(min(count - queries, BANK), 1), queries


def _planned(asked: Asked, trial: Trial, common: Mapping[str, Any], equal: str, unit: float) -> Planned:
    """Return an arm with the time or the epochs of its runs."""
    arm, budgeted = trial.arm, {"run.time": trial.arm.share * unit, "run.fit": OPEN}
    if equal == "epochs":
        epochs = arm.share * unit
        budgeted = {"run.fit": (), "schedule.epochs": epochs, "schedule.warmup": WARMUP * epochs}
        if arm.decays:
            milestones = tuple(part * epochs for part in arm.decays)
            budgeted |= {"schedule.kind": "step", "schedule.milestones": milestones, "schedule.gamma": 0.1}
    more = {"run.batch": trial.settings.run.batch, **common, **arm.settings, **budgeted}
    settings = with_absolute_paths(asked.settled(arm.method, more).settings)
    table = settings.model_dump(mode="json", exclude_none=True)
    expected = {name: float(value) for name, value in trial.plan.expected.items()}
    return Planned(arm.name, arm.method, table, dict(arm.settings), arm.share, expected, trial.fits)
