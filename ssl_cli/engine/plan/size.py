"""Size a run for its images, this machine and its time, by the throughput that a small network reaches here."""

from dataclasses import dataclass

import torch

from ssl_cli import memory
from ssl_cli.config.recipe import known_side
from ssl_cli.config.tree import ModelSettings, Settings
from ssl_cli.config.units import format_epochs, format_seconds
from ssl_cli.data.sample import median_side
from ssl_cli.data.source import Source
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan import budget
from ssl_cli.engine.plan.measure import choose_arithmetic, row_seconds
from ssl_cli.engine.plan.suited import suited
from ssl_cli.events import Choice
from ssl_cli.objective import Objective
from ssl_cli.optim.schedule import mean_area
from ssl_cli.planning.network import FORWARD_BACKWARD, network_cost
from ssl_cli.planning.size import LIBRARY_SIZE, Machine, Work, choose, fitted, given_in, warn_of_few
from ssl_cli.planning.timing import AREAS, seconds_for
from ssl_cli.world import world

SMALL, LARGE = ("resnet18", 0.25, 32), ("resnet18", 1.0, 64)
"""Backbone, width and image size of the network that is measured: on a CPU, on a GPU."""
TIMED, SUITED = {"schedule.epochs", "schedule.warmup"}, {"augment.crop.scale", "augment.flip.p"}


@dataclass(frozen=True)
class SizedRun:
    """Settings with what was chosen in place, the choice in words, and what to warn of.

    `side` is the median short side of the images in pixels, None where they are not here.
    """

    settings: Settings
    side: float | None = None
    choices: tuple[Choice, ...] = ()
    warnings: tuple[str, ...] = ()


def size(settings: Settings, images: int, source: Source | None, device: torch.device) -> SizedRun:
    """Choose crops, flips, network, image size and batch where they are open; epochs are counted when it is measured.

    Args:
        settings: of the run; those in `run.fit` are open.
        images: their number.
        source: images to look at; None: there are none here.
        device: whose throughput is measured, for about two seconds.
    """
    pixels = None if source is None else median_side(source, settings.data.channels)
    views, choices = suited(settings, source, pixels)
    settings = fitted(settings, views)
    if not set(settings.run.fit) - TIMED - SUITED or images < 2:
        return SizedRun(settings, pixels, choices)
    hardware, (name, width, side) = settings.hardware, SMALL if device.type == "cpu" else LARGE
    model = ModelSettings(backbone=name, width=width, stem=settings.model.stem)
    data = settings.data.model_copy(update={"size": side})
    objective = build_objective(settings.model_copy(update={"model": model, "data": data}), device)
    arithmetic, _ = choose_arithmetic(objective, side, device, hardware.precision, hardware.memory_format)
    flop = FORWARD_BACKWARD * network_cost(name, width, side, model.stem, data.channels).flop
    flops = world().size * flop / row_seconds(objective, side, device, arithmetic)
    process = memory.resident()
    available = budget.budget(hardware.memory, device, process)[0] - (0 if device.type == "cuda" else process)
    work, (seconds, _) = work_of(settings, images, pixels, objective), seconds_for(settings, images)
    chosen = choose(work, Machine(flops, available, 2 if arithmetic.precision == "bf16" else 4), seconds)
    reason = f"{images:,} images of {work.side:,.0f} pixels, {flops / 1e9:,.0f} GFLOP/s measured here, "
    count = settings.schedule.epochs
    epochs = f"{format_epochs(count)} epoch{'s' * (count != 1)}"
    reason += format_seconds(seconds) if "schedule.epochs" in settings.run.fit else epochs
    words = f"{chosen.network}, {chosen.size} pixels, batch {chosen.batch:,}"
    choice = Choice(name="sized", value=words, reason=reason)
    warnings = [] if objective.classes else warn_of_few(images)
    return SizedRun(fitted(settings, chosen.values), pixels, (choice, *choices), tuple(warnings))


def work_of(settings: Settings, images: int, side: float | None, objective: Objective) -> Work:
    """Describe the images (of this side, None: as their name says), the method and what is given, to size a run."""
    side = side or known_side(settings.data.source) or LIBRARY_SIZE
    group, area = settings.model.bn_group, mean_area(settings.schedule.resolution, settings.data.size, AREAS)
    return Work(
        images, side, given_in(settings), batch=settings.run.batch, stem=settings.model.stem,
        passes=(FORWARD_BACKWARD * objective.gradient_views + objective.key_views) * area,
        group=float("inf") if group == "global" else group, channels=settings.data.channels,
    )  # fmt: skip
