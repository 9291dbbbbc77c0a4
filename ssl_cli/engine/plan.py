"""What a run will be: every open choice resolved once, with its reason, before the first step."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.engine import memory, probe
from ssl_cli.engine.groups import bn_groups
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.events import Choice
from ssl_cli.objective import Objective
from ssl_cli.optim.schedule import peak_rate

AUTO_MEMORY_CPU = 4 * 10**9
CPU_ROWS = 256
# Forward and backward hold, beside what autograd keeps, the gradients and outputs of a few layers in flight.
WORKSPACE = 1.35


@dataclass(frozen=True)
class Resolved:
    """The choices a resumed run takes over as they are."""

    device: str
    precision: str
    mode: str
    micro_batch: int
    threads: int
    images: int


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"There is no device '{name}' here.", "Use --device cpu, or auto.") from error
    return device


def resolve(
    settings: Settings, objective: Objective, device: torch.device, images: int
) -> tuple[Resolved, list[Choice]]:
    """Settle precision, mode and micro-batch for an objective already on its device.

    Raises:
        ResourceError: not even the smallest micro-batch fits the memory.
    """
    precision, why_precision = _precision(settings, objective, device)
    rows = settings.run.batch * objective.gradient_views
    per_row = int(probe.bytes_per_row(objective, settings.data.size, device, precision) * WORKSPACE)
    budget, why_budget = _budget(settings, device)
    room = budget - _resident(settings, objective, device, images)
    largest = max(_group_sizes(settings, objective))
    mode, micro = _micro_batch(settings, device, rows, largest, per_row, room, budget)
    resolved = Resolved(str(device), precision, mode, micro, torch.get_num_threads(), images)
    peak = budget - room + per_row * (rows if mode == "direct" else micro)
    why_mode = {
        "direct": "the whole batch fits; every activation is kept",
        "cached": "the batch does not fit at once; exact, each row passes twice",
    }[mode]
    choices = [
        Choice(name="device", value=str(device), reason="given" if settings.hardware.device != "auto" else "found"),
        Choice(name="precision", value=precision, reason=why_precision),
        Choice(name="memory", value=format_bytes(budget), reason=why_budget),
        Choice(name="mode", value=mode, reason=why_mode),
        Choice(name="micro-batch", value=f"{micro} rows", reason=f"{format_bytes(per_row)} a row"),
        Choice(name="peak memory", value=format_bytes(peak), reason="estimate"),
    ]
    return resolved, choices


def cache_bytes(settings: Settings, device: torch.device) -> int:
    """What decoded images may take: a quarter of the budget, or of the free memory where the budget is a card's."""
    return (memory.available() if device.type == "cuda" else _budget(settings, device)[0]) // 4


def doubts(settings: Settings, objective: Objective) -> list[str]:
    """What in these settings will not do what the method needs."""
    asks_for_targets = type(objective).targets is not Objective.targets
    sizes = bn_groups(settings.run.batch, 1, settings.model.bn_group, settings.run.seed).sizes
    if asks_for_targets and len(sizes) == 1:
        return [
            f"All {settings.run.batch} keys of a step share one BatchNorm group, so shuffling hides nothing; "
            f"pass --set model.bn_group={max(settings.run.batch // 2, 2)} or a larger --batch."
        ]
    return []


def describe(settings: Settings, objective: Objective, images: int, steps_per_epoch: int) -> list[Choice]:
    """The choices that settings alone decide."""
    peak = peak_rate(settings.optim, settings.run.batch)
    rule = f"{settings.optim.base_lr:g} by the {settings.optim.lr_rule} rule"
    if settings.optim.lr is not None or settings.optim.lr_rule == "none":
        rule = "whatever the batch"
    params = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    sizes = _group_sizes(settings, objective)
    chance = objective.chance(settings.run.batch)
    return [
        Choice(name="method", value=settings.method.name, reason=f"recipe {settings.run.recipe}"),
        Choice(
            name="backbone",
            value=f"{settings.model.backbone}, width {settings.model.width:g}",
            reason=f"{params / 1e6:.2f} M parameters trained with the head",
        ),
        Choice(
            name="images", value=f"{images:,} of {settings.data.size} pixels", reason=settings.data.source or "shapes"
        ),
        Choice(
            name="steps",
            value=f"{steps_per_epoch * settings.schedule.epochs:,}",
            reason=f"{settings.schedule.epochs} epochs of {steps_per_epoch}, batch {settings.run.batch}",
        ),
        Choice(name="learning rate", value=f"{peak:.4g}", reason=f"{settings.optim.name}, {rule}"),
        Choice(name="BatchNorm", value=f"{max(sizes)} rows a group", reason=_bn_reason(settings, objective, sizes)),
        *([Choice(name="chance loss", value=f"{chance:.2f}", reason="nothing told apart")] if chance else []),
    ]


def as_dict(resolved: Resolved) -> dict[str, Any]:
    """Primitives, for plan.json and the checkpoint."""
    return dataclasses.asdict(resolved)


def _precision(settings: Settings, objective: Objective, device: torch.device) -> tuple[str, str]:
    asked = settings.hardware.precision
    if asked != "auto":
        return asked, "given"
    if device.type == "cuda":
        return ("bf16", "this GPU has it") if torch.cuda.is_bf16_supported() else ("fp32", "this GPU lacks bf16")
    if device.type == "mps":
        return "fp32", "safest on this device"
    return probe.faster_precision(objective, settings.data.size, device)


def _budget(settings: Settings, device: torch.device) -> tuple[int, str]:
    asked = settings.hardware.memory
    if asked is not None:
        return asked, "given"
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.9), "nine tenths of what is free on the card"
    half = (memory.available() + memory.resident()) // 2
    if half < AUTO_MEMORY_CPU:
        return half, "half of what is free; --memory gives more"
    return AUTO_MEMORY_CPU, "leaves room for other work; --memory gives more"


def _resident(settings: Settings, objective: Objective, device: torch.device, images: int) -> int:
    """Bytes held whatever the micro-batch: process, weights with gradients and momentum, views, cached images."""
    trained = sum(p.numel() * p.element_size() for p in objective.parameters() if p.requires_grad)
    views = settings.run.batch * objective.views * 3 * settings.data.size**2 * 4
    process = memory.resident() if device.type != "cuda" else sum(p.numel() * 4 for p in objective.parameters())
    if device.type == "cuda":
        return process + 3 * trained + 2 * views
    cached = min(images * 3 * settings.data.size**2, cache_bytes(settings, device))
    # beside the views wait the images of this batch and the next, a quarter of their bytes each
    return process + 3 * trained + cached + int(1.5 * views)


def _bn_reason(settings: Settings, objective: Objective, sizes: tuple[int, ...]) -> str:
    """How many groups, and whether the paper has them so."""
    count = "one group" if len(sizes) == 1 else f"{len(sizes)} groups, drawn anew each step"
    paper = objective.paper_bn_group
    if paper is None:
        return count
    views = objective.gradient_views
    if bn_groups(settings.run.batch, views, paper, settings.run.seed).sizes == sizes:
        return f"{count}, as in the paper"
    theirs = "all rows in one group" if paper == "global" else f"groups of {paper}"
    return f"{count}; the paper has {theirs}: --set model.bn_group={paper}"


def _group_sizes(settings: Settings, objective: Objective) -> tuple[int, ...]:
    return bn_groups(settings.run.batch, objective.gradient_views, settings.model.bn_group, settings.run.seed).sizes


def _micro_batch(
    settings: Settings, device: torch.device, rows: int, largest: int, per_row: int, room: int, budget: int
) -> tuple[str, int]:
    """Mode and rows at a time: all `rows` if their activations fit the `room` left of the budget, else whole groups."""
    asked = settings.hardware.micro_batch
    if asked is not None:
        if asked < largest:
            raise UsageError(
                f"--micro-batch {asked} is smaller than a BatchNorm group of {largest} rows.",
                f"Pass at least {largest}, or change who shares statistics with --set model.bn_group={asked}.",
            )
        return ("direct", rows) if asked >= rows else ("cached", asked)
    if per_row * rows <= room:
        return "direct", rows
    fitting = max(room, 0) // per_row // largest * largest
    if not fitting:
        need = math.ceil((budget - room + per_row * largest) / 1e8) / 10
        fits = max(room, 0) // per_row
        smaller = f"--set model.bn_group={2 ** (fits.bit_length() - 1)}" if fits >= 2 else "a smaller --batch"
        raise ResourceError(
            f"The views of a batch and one BatchNorm group of {largest} rows need {need:.1f} GB, the budget is "
            f"{format_bytes(budget)}.",
            f"Pass --memory {need:.1f}GB, a smaller --backbone or --image-size, or {smaller}.",
        )
    if device.type == "cpu":
        # more rows at once gain nothing there: they only leave the processor's cache
        fitting = min(fitting, max(CPU_ROWS // largest, 1) * largest)
    return "cached", fitting
