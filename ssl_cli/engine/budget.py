"""Memory: what a run may take, what it takes whatever it does, and how many rows at once the rest allows."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.engine import memory
from ssl_cli.engine.groups import bn_groups
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.objective import Objective

AUTO_CPU = 4 * 10**9
CPU_ROWS = 256
WORKSPACE = 1.35
"""Forward and backward hold, beside what autograd keeps, the gradients and outputs of a few layers in flight."""
ADAM, MOMENTUM = 2, 1


def budget(settings: Settings, device: torch.device) -> tuple[int, str]:
    """The bytes that a run may take, and why."""
    asked = settings.hardware.memory
    if asked is not None:
        return asked, "given"
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.9), "nine tenths of what is free on the card"
    half = (memory.available() + memory.resident()) // 2
    if half < AUTO_CPU:
        return half, "half of what is free; --memory gives more"
    return AUTO_CPU, "leaves room for other work; --memory gives more"


def cache_bytes(settings: Settings, device: torch.device) -> int:
    """What decoded images may take: a quarter of the budget, or of the free memory where the budget is a card's."""
    return (memory.available() if device.type == "cuda" else budget(settings, device)[0]) // 4


def resident(settings: Settings, objective: Objective, device: torch.device, cached: int) -> int:
    """Bytes held whatever the micro-batch: process, gradients and momentum, views, `cached` bytes of images.

    Of a card, what is not on it yet: its weights are, and what it calls free is without them.
    """
    training = (1 + moments(settings)) * trained_bytes(objective)
    views = settings.run.batch * objective.views * 3 * settings.data.size**2 * 4
    if device.type == "cuda":
        return training + 2 * views
    # beside the views wait the images of this batch and the next, a quarter of their bytes each
    return memory.resident() + training + cached + int(1.5 * views)


def trained_bytes(objective: Objective) -> int:
    """Of the weights that learn."""
    return sum(p.numel() * p.element_size() for p in objective.parameters() if p.requires_grad)


def moments(settings: Settings) -> int:
    """Copies of the weights that the optimiser keeps."""
    return ADAM if settings.optim.name == "adamw" else MOMENTUM if settings.optim.momentum else 0


def checkpoint_bytes(settings: Settings, objective: Objective) -> int:
    """Of one checkpoint, about: all weights and state, and the optimiser's."""
    tensors: Mapping[str, Tensor] = objective.state_dict()
    state = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return state + moments(settings) * trained_bytes(objective)


def group_sizes(settings: Settings, objective: Objective) -> tuple[int, ...]:
    """Rows of each BatchNorm group of a step."""
    return bn_groups(settings.run.batch, objective.gradient_views, settings.model.bn_group, settings.run.seed).sizes


def micro_batch(
    settings: Settings, objective: Objective, device: torch.device, per_row: int, room: int, most: int
) -> tuple[str, int]:
    """Mode and rows at a time: all rows if their activations fit the `room` left of `most` bytes, else whole groups.

    Raises:
        UsageError: the micro-batch asked for would cut a group.
        ResourceError: not even one group fits.
    """
    rows, largest = settings.run.batch * objective.gradient_views, max(group_sizes(settings, objective))
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
        raise _too_little(per_row, room, largest, most)
    if device.type == "cpu":
        # more rows at once gain nothing there: they only leave the processor's cache
        fitting = min(fitting, max(CPU_ROWS // largest, 1) * largest)
    return "cached", fitting


def _too_little(per_row: int, room: int, largest: int, most: int) -> ResourceError:
    need = -(-(most - room + per_row * largest) // 10**8) / 10
    fits = max(room, 0) // per_row
    smaller = f"--set model.bn_group={2 ** (fits.bit_length() - 1)}" if fits >= 2 else "a smaller --batch"
    return ResourceError(
        f"The views of a batch and one BatchNorm group of {largest} rows need {need:.1f} GB, the budget is "
        f"{format_bytes(most)}.",
        f"Pass --memory {need:.1f}GB, --recipe shapes, a smaller --backbone or --image-size, or {smaller}.",
    )
