"""What a run will be: every open choice resolved once, with its reason, before the first step."""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_cli.config.augment import RGB
from ssl_cli.config.tree import CIFAR_UP_TO, Settings
from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.data.source import Source
from ssl_cli.engine.plan import budget, need, probe
from ssl_cli.engine.plan.compile import Compilation, Work, choose, divided
from ssl_cli.engine.plan.divide import Division, Mode
from ssl_cli.engine.plan.fit import fit
from ssl_cli.engine.rows import group_sizes, splits_groups
from ssl_cli.events import Choice
from ssl_cli.objective import Objective
from ssl_cli.optim.schedule import peak_rate
from ssl_cli.registry import is_library_backbone
from ssl_cli.world import world


@dataclass(frozen=True)
class Resolved:
    """The choices a resumed run takes over as they are."""

    device: str
    precision: str
    mode: str
    micro_batch: int
    images: int
    memory_format: str = "channels_last"
    kept_graphs: int = 0
    checkpointing: bool = False
    compile: str = "off"
    gpu_cache_bytes: int = 0

    @classmethod
    def from_dict(cls, d):
        d = dict(d); d.pop("threads", None)
        if "kept" in d: d["kept_graphs"] = d.pop("kept")
        if "card_bytes" in d: d["gpu_cache_bytes"] = d.pop("card_bytes")
        return cls(**d)

    def as_dict(self):
        return dataclasses.asdict(self)

    def __post_init__(self) -> None:
        earlier: dict[object, str] = {False: "off", True: "on"}  # as runs had it before there were graphs
        object.__setattr__(self, "compile", earlier.get(self.compile, self.compile))


@dataclass(frozen=True)
class Plan:
    """What was resolved, why, what to expect (see `Planned`), and what to warn of."""

    resolved: Resolved
    choices: tuple[Choice, ...]
    expected: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """How many images there are, from where in words, and some of them to time reading and augmentation on."""

    images: int
    where: str
    few: Source | None


def make(settings: Settings, objective: Objective, data: Data, out: Path, *, fits: bool = False) -> Plan:
    """The plan of a new run. The objective, on its device, is left as it was but for its memory format.

    Args:
        settings: the settled tree.
        objective: what will be trained.
        data: on what.
        out: the run folder, or where it will be.
        fits: whether to say, too, how large a batch would fit.

    Raises:
        ResourceError: not even the smallest micro-batch fits the memory.
        UsageError: a micro-batch that would cut BatchNorm groups.
    """
    device, images = next(objective.parameters()).device, data.images
    arithmetic, why = _arithmetic(settings, objective, device)
    rounded = probe.products(arithmetic.precision, device)
    objective.to(memory_format=probe.FORMATS[arithmetic.memory_format])
    fitted = fit(settings, objective, arithmetic, images, data.few)
    found, division, stay = fitted.need, fitted.division, fitted.stay
    resolved = Resolved(
        device=str(device), precision=arithmetic.precision, memory_format=arithmetic.memory_format,
        images=images, **fitted.resolved,
    )  # fmt: skip
    seconds = found.seconds(settings, division, images=images, in_memory=stay.decoded_once)
    work = Work(division, resolved.precision, resolved.memory_format, seconds)
    compiling = choose(settings, objective, work, dry=fits)
    resolved = dataclasses.replace(resolved, compile=compiling.way)
    size, free = budget.checkpoint_bytes(settings, objective), _free(out)
    peak = fitted.beside + division.peak + stay.beyond
    expected = _expected(settings, objective, images, seconds)
    expected |= {"peak_memory": peak, "checkpoint": size, "disk_free": free}
    kept = f"{settings.run.keep} are kept; {format_bytes(free)} free on the disk"
    choices = [
        *describe(settings, objective, images, data.where),
        *_processes(settings, objective),
        Choice(name="device", value=str(device), reason=_why_device(settings, torch.get_num_threads())),
        Choice(name="precision", value=f"{resolved.precision}, {resolved.memory_format}", reason=why + rounded),
        Choice(name="memory", value=format_bytes(fitted.most), reason=fitted.why),
        Choice(name="images stay", value=stay.place, reason=stay.reason),
        Choice(name="mode", value=division.mode, reason=_why_mode(division, found.cost(division))),
        Choice(name="micro-batch", value=f"{division.micro_batch:,} rows", reason=_a_row(found, division)),
        Choice(name="compile", value=compiling.way, reason=compiling.reason),
        Choice(name="peak memory", value=format_bytes(peak), reason="estimate"),
        Choice(name="checkpoint", value=format_bytes(size), reason=kept),
    ]
    if seconds is not None:
        pace = f"estimate: {expected['rate']:,.0f} images/s"
        choices.append(Choice(name="time", value=format_seconds(seconds), reason=pace))
    if fits:
        largest = found.largest_batches(settings, fitted.most)
        choices.append(_would_fit(largest, fitted.most))
        expected |= {f"largest_{mode}": batch for mode, batch in largest.items()}
    told = (*doubts(settings, objective), *_eager(settings, compiling), *_no_room(settings, size, free))
    return Plan(resolved, tuple(choices), expected, (*told, *_too_long(seconds)))


def divided_anew(settings: Settings, objective: Objective, data: Data, resolved: Resolved) -> Resolved:
    """What was resolved, but the batch divided as the settings now ask; raises as `make`."""
    objective.to(memory_format=probe.FORMATS[resolved.memory_format])
    how = probe.Arithmetic(resolved.precision, resolved.memory_format, {})
    fitted = fit(settings, objective, how, data.images, data.few)
    division = fitted.division
    way = divided(resolved.compile, checkpointing=division.checkpointing, at_once=division.count == 1)
    return dataclasses.replace(resolved, **fitted.resolved, compile=way)


LONG = 3 * 86400
"""Seconds from which on a run is warned of."""


def capped(settings: Settings, images: int) -> tuple[Settings, list[str]]:
    """A queue or memory of at most half the images: a longer one would hold many a row's own image as a negative."""
    most = max(images // 2, 1)
    asked = {name: getattr(settings.method, name, None) for name in ("queue", "memory")}
    long = {name: rows for name, rows in asked.items() if isinstance(rows, int) and rows > most}
    notes = [
        f"The {name} is capped from {rows:,} to {most:,} rows, half of the {images:,} images."
        for name, rows in long.items()
    ]
    method = settings.method.model_copy(update=dict.fromkeys(long, most))
    return settings.model_copy(update={"method": method}), notes


def doubts(settings: Settings, objective: Objective) -> list[str]:
    """What in these settings will not do what the method needs, or what was asked."""
    found = []
    where, processors = world(), os.cpu_count() or 1
    if settings.hardware.device != "cuda" and where.local_size > processors and not torch.cuda.is_available():
        found.append(
            f"{where.local_size} processes share {processors} processors here and will wait for one another; "
            f"pass --devices {processors} or less. The time planned is for a processor each."
        )
    sizes = group_sizes(settings.run.batch, 1, settings.model.bn_group)
    if objective.shuffled_keys and len(sizes) == 1:
        found.append(
            f"All {settings.run.batch} keys of a step share one BatchNorm group, so shuffling hides nothing; "
            f"pass --set model.bn_group={max(settings.run.batch // 2, 2)} or a larger --batch."
        )
    if settings.augment.second is not None and objective.views == 1:
        found.append(f"augment.second is not used: {settings.method.name} takes one view of an image.")
    if is_library_backbone(settings.model.backbone) and settings.data.size <= CIFAR_UP_TO:
        found.append(
            f"{settings.model.backbone} is built for images of about 224 pixels, and of {settings.data.size} its first "
            f"layers leave little; pass a larger --image-size, or take a resnet, which has a stem for small images."
        )
    return found


def describe(settings: Settings, objective: Objective, images: int, where: str) -> list[Choice]:
    """The choices that settings alone decide."""
    model, batch, epochs = settings.model, settings.run.batch, settings.schedule.epochs
    peak = peak_rate(settings.optim, batch)
    rule = f"{settings.optim.base_lr:g} by the {settings.optim.lr_rule} rule"
    if settings.optim.lr is not None:
        rule = "given"
    elif settings.optim.lr_rule == "none":
        rule = "whatever the batch"
    small = settings.data.size <= CIFAR_UP_TO
    stem = model.stem if model.stem != "auto" else "cifar" if small else "imagenet"
    why_stem = "given" if model.stem != "auto" else f"images {'up to' if small else 'above'} {CIFAR_UP_TO} pixels"
    sizes = group_sizes(batch, objective.gradient_views, model.bn_group)
    each = images // batch
    choices = [
        Choice(name="method", value=settings.method.name, reason=f"recipe {settings.run.recipe}"),
        Choice(
            name="backbone",
            value=model.title,
            reason=f"{_parameters(objective) / 1e6:.2f} M parameters trained with the head",
        ),
        *([] if is_library_backbone(model.backbone) else [Choice(name="stem", value=stem, reason=why_stem)]),
        Choice(name="images", value=f"{images:,}, views of {settings.data.size} pixels", reason=where),
        *_channels(settings),
        Choice(
            name="steps",
            value=f"{each * epochs:,}",
            reason=f"{epochs:,} epoch{'s' * (epochs != 1)} of {each:,}, batch {batch:,}",
        ),
        Choice(name="learning rate", value=f"{peak:.4g}", reason=f"{settings.optim.name}, {rule}"),
        Choice(name="BatchNorm", value=f"{max(sizes)} rows a group", reason=_bn_reason(settings, objective, sizes)),
    ]
    negatives, chance = objective.negatives(batch), objective.chance(batch)
    if negatives is not None:
        value, reason = f"{negatives:,} an anchor", f"chance loss {chance:.2f}: nothing told apart" if chance else ""
        choices.append(Choice(name="negatives", value=value, reason=reason))
    return choices


def _channels(settings: Settings) -> list[Choice]:
    """How many channels there are and what is left out of the augmentation, where they are not red, green and blue."""
    channels, augment = settings.data.channels, settings.augment
    left = [f"{name} ({why})" for name, why in augment.unsuited(channels).items()]
    if channels != RGB and "jitter" in {*augment.order, *(augment.second or ())}:
        left.append("jitter's saturation and hue")
    if channels == RGB and not left:
        return []
    return [Choice(name="channels", value=str(channels), reason=f"left out: {', '.join(left)}" if left else "given")]


def as_dict(resolved: Resolved) -> dict[str, Any]:
    """Primitives, for plan.json and the checkpoint."""
    return dataclasses.asdict(resolved)


def _arithmetic(settings: Settings, objective: Objective, device: torch.device) -> tuple[probe.Arithmetic, str]:
    """How to compute: as given, as is known to be best on the device, or what a probe finds."""
    asked, layout = settings.hardware.precision, settings.hardware.memory_format
    formats: list[str] = [layout] if layout != "auto" else ["contiguous" if device.type == "mps" else "channels_last"]
    if asked != "auto":
        precisions: list[str] = [asked]
        why = "given"
    elif device.type == "cuda":
        has = torch.cuda.is_bf16_supported()
        precisions, why = (["bf16"], "this GPU has bf16") if has else (["fp32"], "this GPU lacks bf16")
    elif device.type == "mps":
        precisions, why = ["fp32"], "safest on this device"
    else:
        precisions, why = ["fp32", "bf16"], ""
    if layout == "auto" and device.type == "cpu":
        formats = ["channels_last", "contiguous"]
    if len(precisions) == len(formats) == 1:
        return probe.Arithmetic(precisions[0], formats[0], {}), why
    found = probe.fastest(objective, settings.data.size, device, precisions, formats)
    return found, found.reason


def _processes(settings: Settings, objective: Objective) -> list[Choice]:
    """Who does what, where processes share a step."""
    where = world()
    if where.size == 1:
        return []
    groups = len(group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group))
    how = f"{groups // where.size} of {groups} BatchNorm groups each"
    if splits_groups(groups, where.size):
        how = f"{groups} BatchNorm group{'s' * (groups > 1)} cannot be dealt evenly: each has rows in all, sums travel"
    return [Choice(name="processes", value=f"{where.size}", reason=how)]


def _why_device(settings: Settings, threads: int) -> str:
    given = "given" if settings.hardware.device != "auto" else "found"
    return f"{given}; {threads} thread{'s' * (threads != 1)}"


def _a_row(found: need.Need, division: Division) -> str:
    return f"{format_bytes(found.weigh(division.checkpointing).peak)} a row"


def _why_mode(division: Division, cost: float | None) -> str:
    extra = f"; {cost:.2f} x the passes' time" if cost is not None and division.extra else ""
    return division.reason + extra


def _would_fit(largest: Mapping[Mode, int], most: int) -> Choice:
    told = ", ".join(f"{batch:,} {mode}" for mode, batch in largest.items() if batch)
    return Choice(name="would fit", value=told or "nothing", reason=f"batches in {format_bytes(most)}, about")


def _expected(settings: Settings, objective: Objective, images: int, seconds: float | None) -> dict[str, float]:
    steps, negatives = _steps(settings, images), objective.negatives(settings.run.batch)
    found: dict[str, float] = {"steps": steps, "images": images, "parameters": _parameters(objective)}
    if seconds is not None:
        found |= {"seconds": seconds, "rate": steps * settings.run.batch / max(seconds, 1e-9)}
    return found if negatives is None else {**found, "negatives": negatives}


def _steps(settings: Settings, images: int) -> int:
    return images // settings.run.batch * settings.schedule.epochs


def _bn_reason(settings: Settings, objective: Objective, sizes: tuple[int, ...]) -> str:
    """How many groups, and whether the paper has them so."""
    most = settings.model.bn_group
    count = "one group" if len(sizes) == 1 else f"{len(sizes)} equal groups of at most {most}, drawn anew each step"
    paper = objective.paper_bn_group
    if paper is None:
        return count
    if group_sizes(settings.run.batch, objective.gradient_views, paper) == sizes:
        return f"{count}, as in the paper"
    theirs = "all rows in one group" if paper == "global" else f"groups of {paper}"
    return f"{count}; the paper has {theirs}: --set model.bn_group={paper}"


def _parameters(objective: Objective) -> int:
    return sum(p.numel() for p in objective.parameters() if p.requires_grad)


def _free(out: Path) -> int:
    """Bytes free where `out` is or will be."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _eager(settings: Settings, compiling: Compilation) -> list[str]:
    asked = settings.hardware.compile
    refused = asked in ("on", "graphs") and compiling.way == "off"
    return [f"The run is not compiled, though --compile {asked} asks for it: {compiling.reason}."] if refused else []


def _too_long(seconds: float | None) -> list[str]:
    if seconds is None or seconds < LONG:
        return []
    return [
        f"This run would take {format_seconds(seconds)}; fewer --epochs, --recipe shapes, or a smaller --backbone, "
        f"--width or --image-size shorten it."
    ]


def _no_room(settings: Settings, size: int, free: int) -> list[str]:
    need = (settings.run.keep + 1) * size  # the new one is written before the oldest goes
    if need <= free:
        return []
    return [
        f"Checkpoints may need {format_bytes(need)}, and {format_bytes(free)} are free; "
        f"choose an --out on another disk, or --set run.keep=2."
    ]


def make_plan(settings, objective, images, where, few, out, *, dry_run=False):
    p = make(settings, objective, Data(images, where, few), out, fits=dry_run)
    object.__setattr__(p, "cache_bytes", cache_bytes(settings, objective, next(objective.parameters()).device))
    return p


def cache_bytes(settings, objective, device):
    return budget.cache_bytes(settings, objective, device)


def replan(settings, objective, resolved, few):
    return divided_anew(settings, objective, Data(resolved.images, "", few), resolved), cache_bytes(settings, objective, next(objective.parameters()).device)


cap_queue = capped
