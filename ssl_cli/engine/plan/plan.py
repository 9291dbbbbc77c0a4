"""The plan of a run: every open choice resolved once, with its reason, before the first step."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ssl_cli import memory, spinning
from ssl_cli.config.augment import RGB
from ssl_cli.config.tree import CIFAR_UP_TO, Settings
from ssl_cli.config.units import format_bytes, format_epochs, format_seconds, format_time
from ssl_cli.data.source import Source
from ssl_cli.disk import nearest_existing
from ssl_cli.engine.plan import budget, compile
from ssl_cli.engine.plan.cost import IN_PART, NOWHERE, Fit, fit
from ssl_cli.engine.plan.measure import Arithmetic, choose_arithmetic
from ssl_cli.engine.rows import splits_groups
from ssl_cli.events import Choice
from ssl_cli.names import counted
from ssl_cli.nn.group_sizes import group_sizes
from ssl_cli.nn.precision import MEMORY_FORMATS
from ssl_cli.objective import Objective, device_of
from ssl_cli.optim.schedule import peak_rate, view_size
from ssl_cli.planning.divide import MicroBatchPlan, Mode
from ssl_cli.planning.resolved import Resolved
from ssl_cli.planning.size import values_of
from ssl_cli.planning.timing import Timing, reason, seconds_for, timed, warn_of_time
from ssl_cli.registry import is_library_backbone
from ssl_cli.world import processors, world

MODES: tuple[Mode, ...] = ("direct", "checkpointed", "cached")
"""Modes whose largest batch a dry run estimates."""
LONG = 3 * 86400
"""Seconds of a run from which on the plan warns."""


@dataclass(frozen=True)
class Plan:
    """A new run: what was resolved and why, numbers to expect (see `Planned`), warnings, and RAM for decoded images.

    `settings` have the number of epochs that suits the time, where it is open.
    """

    settings: Settings
    resolved: Resolved
    choices: tuple[Choice, ...]
    expected: Mapping[str, float]
    warnings: tuple[str, ...]
    cache_bytes: int


def make_plan(
    settings: Settings, objective: Objective, images: int, where: str, sample_source: Source | None, out: Path, *,
    dry_run: bool = False, spent: float = 0.0, earlier: Resolved | None = None,
) -> Plan:  # fmt: skip
    """Plan a new run: choose what is open, and measure and estimate its memory and time.

    Args:
        settings: of the run.
        objective: what is trained.
        images: how many images the data set has.
        where: the data set in words.
        sample_source: images to measure with; None: noise.
        out: the run folder, or where it will be.
        dry_run: whether to estimate, too, how large a batch would fit.
        spent: seconds of the run's time that are over; those of this plan are counted, too.
        earlier: choices of the same run on another device, of which its size and its schedule are kept.

    Note:
        The memory format of the objective is changed to the one that is chosen.

    Raises:
        ResourceError: not even the smallest micro-batch fits the memory.
        UsageError: the micro-batch asked for would split a BatchNorm group.
    """
    began, device, hardware = time.monotonic() - spent, device_of(objective), settings.hardware
    arithmetic, why = _arithmetic(objective, device, settings)
    objective.to(memory_format=MEMORY_FORMATS[arithmetic.memory_format])
    fitted = fit(settings, objective, arithmetic, images, sample_source)
    timing, per_epoch, ranks = _timing(fitted, images, began), images // settings.run.batch, world().size
    settings = settings if earlier else timed(settings, timing, per_epoch)
    shown = earlier.as_calibrated(settings) if earlier else settings
    seconds = None if timing is None else timing.seconds(shown.schedule.steps(per_epoch), per_epoch)
    groups = len(group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group))
    mode, why_compile = _compile(hardware.compile, device, fitted.micro_batches, groups, seconds)
    resolved = Resolved(
        device=str(device), precision=arithmetic.precision, memory_format=arithmetic.memory_format, compile=mode,
        images=images, **fitted.resolved, sized=values_of(settings),
        calibrations=earlier.calibrations if earlier else (),
        timing=timing if ranks == 1 and not earlier and "schedule.epochs" in settings.run.fit else None,
    )  # fmt: skip
    size, disk = budget.checkpoint_bytes(settings, objective), _free_disk(out)
    facts = [
        *([("processes", str(ranks), _why_processes(groups, ranks))] if ranks > 1 else []),
        ("device", str(device), _why_device(settings)),
        ("precision", f"{resolved.precision}, {resolved.memory_format}", why + _tf32(resolved.precision, device)),
        *_memory_choices(fitted),
        ("compile", mode, why_compile),
        ("peak memory", format_bytes(fitted.peak), "estimate"),
        ("checkpoint", format_bytes(size), f"{settings.run.keep} are kept; {format_bytes(disk)} free on the disk"),
    ]
    expected = _expected(shown, objective, images, seconds)
    expected |= {"peak_memory": fitted.peak, "checkpoint": size, "disk_free": disk}
    if seconds is not None:
        facts.append(("time", format_seconds(seconds), reason(settings, images, expected["rate"], ranks)))
    facts += [_would_fit(fitted, expected)] if dry_run else []
    refused = why_compile if hardware.compile in ("on", "graphs") and mode == "off" else ""
    warnings = _warnings(settings, objective, seconds or 0.0, size, disk, refused)
    warnings += (*warn_of_time(settings, timing, per_epoch), *fitted.model.sample.warnings)
    choices = (*describe(shown, objective, images, where), *_choices(facts))
    return Plan(settings, resolved, choices, expected, warnings, fitted.cache_bytes)


def _compile(
    asked: str, device: torch.device, micro_batches: MicroBatchPlan, groups: int, seconds: float | None
) -> tuple[str, str]:
    return compile.choose(
        asked, device.type, checkpointing=micro_batches.checkpointing, undivided=micro_batches.undivided,
        world_size=world().size, seconds=seconds, split_groups=splits_groups(groups, world().size),
    )  # fmt: skip


def _arithmetic(objective: Objective, device: torch.device, settings: Settings) -> tuple[Arithmetic, str]:
    hardware = settings.hardware
    return choose_arithmetic(objective, settings.data.size, device, hardware.precision, hardware.memory_format)


def _timing(fitted: Fit, images: int, began: float) -> Timing | None:
    """Estimate the time of the steps of a run that began at this reading of the clock."""
    model, recomputed = fitted.model, fitted.micro_batches.recomputed
    limit = seconds_for(model.settings, images)[0] - (time.monotonic() - began)
    return model.timing(limit, images, recomputed, decoded_once=fitted.cache.place not in (IN_PART, NOWHERE))


def _would_fit(fitted: Fit, expected: dict[str, float]) -> tuple[str, str, str]:
    """Return the largest batch of each mode as a row of the plan, and add it to what is expected."""
    largest = {name: fitted.model.largest_batch(fitted.budget, name) for name in MODES}
    expected |= {f"largest_{name}": batch for name, batch in largest.items()}
    listed = ", ".join(f"{batch:,} {name}" for name, batch in largest.items() if batch) or "nothing"
    return "would fit", listed, f"batches in {format_bytes(fitted.budget)}, about"


def replan(
    settings: Settings, objective: Objective, resolved: Resolved, sample_source: Source | None
) -> tuple[Resolved, int]:
    """Divide the batch of a resumed run as the settings now ask; return the choices and the RAM for decoded images.

    Raises:
        ResourceError: as `make_plan`.
        UsageError: as `make_plan`.
    """
    objective.to(memory_format=MEMORY_FORMATS[resolved.memory_format])
    arithmetic = Arithmetic(resolved.precision, resolved.memory_format, {})
    fitted = fit(settings, objective, arithmetic, resolved.images, sample_source)
    micro_batches = fitted.micro_batches
    mode = compile.allowed(
        resolved.compile, checkpointing=micro_batches.checkpointing, undivided=micro_batches.undivided
    )
    return replace(resolved, **fitted.resolved, compile=mode), fitted.cache_bytes


def cache_bytes(settings: Settings, objective: Objective, device: torch.device) -> int:
    """Return the RAM for decoded images of a run whose plan is not made again."""
    process = memory.resident()
    limit, _ = budget.budget(settings.hardware.memory, device, process)
    return budget.cache_bytes(settings, objective, limit, process)


def _warnings(
    settings: Settings, objective: Objective, seconds: float, checkpoint: int, disk: int, refused: str
) -> tuple[str, ...]:
    """Return what in a plan does not do what was asked or what the method needs, or does not fit disk or patience."""
    ranks, cores = world().local_size, processors()
    keys = group_sizes(settings.run.batch, 1, settings.model.bn_group)
    asked, method, model, size = settings.hardware.compile, settings.method.name, settings.model, settings.data.size
    needed = (settings.run.keep + 1) * checkpoint  # the new one is written before the oldest is deleted
    on_gpu, stop = device_of(objective).type == "cuda", settings.run.max_time
    sentences = (
        (ranks > cores and not on_gpu,
         f"{ranks} ranks share {counted(cores, 'core')} here and will wait for one another; "
         f"pass --devices {cores} or less. The time planned is for a core each."),
        (objective.shuffled_keys and len(keys) == 1,
         f"All {settings.run.batch} keys of a step share one BatchNorm group, so shuffling them has no effect; "
         f"pass --set model.bn_group={max(settings.run.batch // 2, 2)} or a larger --batch."),
        (settings.augment.second is not None and objective.views == 1,
         f"augment.second is not used: {method} takes one view of an image."),
        (is_library_backbone(model.backbone) and size <= CIFAR_UP_TO,
         f"{model.backbone} is built for images of about 224 pixels; its first layers shrink those of {size} to almost "
         f"nothing. Pass a larger --image-size, or take a resnet, which has a stem for small images."),
        (bool(refused), f"The run is not compiled, though --compile {asked} asks for it: {refused}."),
        (needed > disk,
         f"Checkpoints may need {format_bytes(needed)}, and {format_bytes(disk)} are free; "
         f"choose an --out on another disk, or --set run.keep=2."),
        (seconds >= LONG,
         f"This run would take {format_seconds(seconds)}; --recipe own chooses one for this machine and a --time. "
         f"Fewer --epochs or a smaller --backbone, --width or --image-size shorten it."),
        (bool(stop) and seconds > (stop or 0),
         f"--max-time stops this run at about {100 * (stop or 0) / max(seconds, 1e-9):.0f} % of its schedule, at a "
         f"high learning rate; --time {format_time(stop or 0)} ends with a complete one."),
    )  # fmt: skip
    return tuple(sentence for applies, sentence in sentences if applies)


def describe(settings: Settings, objective: Objective, images: int, where: str) -> list[Choice]:
    """Return the choices that the settings alone decide."""
    model, batch, epochs, optim = settings.model, settings.run.batch, settings.schedule.epochs, settings.optim
    rule = f"{optim.base_lr:g} by the {optim.lr_rule} rule" if optim.lr_rule != "none" else "for any batch"
    rule += "" if optim.max_lr is None else f", at most {optim.max_lr:g}"
    small = settings.data.size <= CIFAR_UP_TO
    stem, why_stem = model.stem, "given"
    if stem == "auto":
        stem, why_stem = ("cifar", "up to") if small else ("imagenet", "above")
        why_stem = f"images {why_stem} {CIFAR_UP_TO} pixels"
    sizes = group_sizes(batch, objective.gradient_views, model.bn_group)
    per_epoch, negatives, chance = images // batch, objective.negatives(batch), objective.chance(batch)
    rows = [
        ("method", settings.method.name, f"recipe {settings.run.recipe}"),
        ("backbone", model.title, f"{_parameters(objective) / 1e6:.2f} M parameters trained with the head"),
        *objective.facts,
        *([] if is_library_backbone(model.backbone) else [("stem", stem, why_stem)]),
        ("images", f"{images:,}, views of {_sides(settings)} pixels", where),
        *_channels(settings),
        (
            "steps",
            f"{settings.schedule.steps(per_epoch):,}",
            f"{format_epochs(epochs)} epoch{'s' * (epochs != 1)} of {per_epoch:,}, batch {batch:,}",
        ),
        (
            "learning rate",
            f"{peak_rate(optim, batch):.4g}",
            f"{optim.name}, {'given' if optim.lr is not None else rule}",
        ),
        ("BatchNorm", f"{max(sizes)} rows a group", _why_groups(settings, objective, sizes)),
    ]
    if negatives is not None:
        others = objective.over_groups(float, negatives)
        reason = "on average, without an image's own group; " if others < negatives else ""
        reason += f"chance loss {chance:.2f}, that of random embeddings" if chance else ""
        rows.append(("negatives", f"{others:,.0f} an anchor", reason.removesuffix("; ")))
    return _choices(rows)


def _choices(rows: Sequence[tuple[str, str, str]]) -> list[Choice]:
    return [Choice(name=name, value=value, reason=reason) for name, value, reason in rows]


def _sides(settings: Settings) -> str:
    """Return the side of views, and of the first ones where they grow."""
    size, resolution = settings.data.size, settings.schedule.resolution
    first = view_size(resolution, size, 1, 0)
    return str(size) if resolution is None or first == size else f"{first} to {size}"


def _channels(settings: Settings) -> list[tuple[str, str, str]]:
    """Return the number of channels, and what the augmentation leaves out where they are not red, green and blue."""
    channels, augment = settings.data.channels, settings.augment
    left = [f"{name} ({why})" for name, why in augment.unsuited(channels).items()]
    if channels != RGB and "jitter" in {*augment.order, *(augment.second or ())}:
        left.append("jitter's saturation and hue")
    if channels == RGB and not left:
        return []
    return [("channels", str(channels), f"left out: {', '.join(left)}" if left else "given")]


def _tf32(precision: str, device: torch.device) -> str:
    tf32 = precision == "fp32" and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "; networks multiply in TF32, losses do not" if tf32 else ""


def _memory_choices(fitted: Fit) -> list[tuple[str, str, str]]:
    model, micro_batches = fitted.model, fitted.micro_batches
    factor, row = "", model.activations(micro_batches.checkpointing).peak
    if model.cost is not None and micro_batches.recomputed:
        times = 1 + micro_batches.recomputed * model.cost.forward / model.cost.forward_backward
        factor = f"; {times:.2f} x the time of forward and backward passes"
    return [
        ("memory", format_bytes(fitted.budget), fitted.reason),
        ("image cache", fitted.cache.place, fitted.cache.reason),
        ("mode", micro_batches.mode, micro_batches.reason + factor),
        ("micro-batch", f"{micro_batches.micro_batch:,} rows", f"{format_bytes(row)} a row"),
    ]


def _why_device(settings: Settings) -> str:
    threads = torch.get_num_threads()
    found = "given" if settings.hardware.device != "auto" else "found"
    number = f"{counted(threads, 'thread')}, whose number affects the last bits of sums"
    return "; ".join(filter(None, (found, number, spinning.described())))


def _why_processes(groups: int, ranks: int) -> str:
    if splits_groups(groups, ranks):
        return f"{counted(groups, 'BatchNorm group')} cannot be divided evenly: ranks all-reduce statistics"
    return f"{groups // ranks} of {groups} BatchNorm groups each"


def _why_groups(settings: Settings, objective: Objective, sizes: tuple[int, ...]) -> str:
    """Say how many BatchNorm groups there are, and whether the paper has the same."""
    most, paper = settings.model.bn_group, objective.paper_bn_group
    count = "one group" if len(sizes) == 1 else f"{len(sizes)} equal groups of at most {most}, drawn for each step"
    if paper is None:
        return count
    if objective.shuffled_keys and len(sizes) == 1 and paper != "global":
        return count
    if group_sizes(settings.run.batch, objective.gradient_views, paper) == sizes:
        return f"{count}, as in the paper"
    groups = "all rows in one group" if paper == "global" else f"groups of {paper}"
    return f"{count}; the paper has {groups}: --set model.bn_group={paper}"


def _expected(settings: Settings, objective: Objective, images: int, seconds: float | None) -> dict[str, float]:
    batch = settings.run.batch
    steps, negatives = settings.schedule.steps(images // batch), objective.negatives(batch)
    rate = None if seconds is None else steps * batch / max(seconds, 1e-9)
    others = None if negatives is None else round(objective.over_groups(float, negatives))
    found = {"steps": steps, "images": images, "parameters": _parameters(objective), "negatives": others}
    return {name: value for name, value in {**found, "seconds": seconds, "rate": rate}.items() if value is not None}


def _parameters(objective: Objective) -> int:
    return sum(p.numel() for p in objective.parameters() if p.requires_grad)


def _free_disk(out: Path) -> int:
    return shutil.disk_usage(nearest_existing(out)).free
