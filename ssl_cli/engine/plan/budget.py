"""Memory: what a run may take, and what it takes however its batch is divided."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_cli.augment.pipeline import GPU_CHUNK_BYTES
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import cap_for
from ssl_cli.engine.plan import memory
from ssl_cli.engine.rows import group_sizes
from ssl_cli.engine.shards import own_sizes
from ssl_cli.objective import Objective
from ssl_cli.world import world

AUTO_CPU = 4 * 10**9
ADAM, MOMENTUM = 2, 1


def budget(settings: Settings, device: torch.device) -> tuple[int, str]:
    """The bytes that a run may take, and why."""
    asked = settings.hardware.memory
    if asked is not None:
        return asked, "given"
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.9), "nine tenths of what is free on the card"
    half = (memory.available() + memory.resident()) // 2 // world().local_size
    if half < AUTO_CPU:
        return half, "half of what is free; --memory gives more"
    return AUTO_CPU, "leaves room for other work; --memory gives more"


def cache_bytes(settings: Settings, objective: Objective, device: torch.device) -> int:
    """What decoded images may take: a quarter of what the budget leaves, or of the free memory beside a card."""
    if device.type == "cuda":
        return memory.available() // 4 // world().local_size
    most, _ = budget(settings, device)
    return max(most - held(settings, objective, device, "fp32", _bytes(settings)), 0) // 4


def _bytes(settings: Settings) -> int:
    """Of a decoded image, about."""
    return settings.data.channels * cap_for(settings.data.size) ** 2


def held(settings: Settings, objective: Objective, device: torch.device, precision: str, image: float) -> int:
    """Bytes beside activations and the images that stay: process, gradients and momentum, views, images in flight.

    Of a card, what is not on it yet: its weights are, and what it calls free is without them. `image` is the bytes
    of one before augmentation.
    """
    training = (1 + moments(settings)) * trained_bytes(objective)
    batch = -(-settings.run.batch // world().size)
    pixels = settings.data.channels * settings.data.size**2
    views = batch * objective.views * pixels * (2 if precision == "bf16" else 4)
    batch = min(2 * batch, settings.run.batch)  # of several processes, each may have the views of as many images
    if device.type == "cuda":
        kept = checkpoint_bytes(settings, objective)  # as all was before a step whose verdict is not known: see gate.py
        group = min(batch * objective.views * pixels * 4, GPU_CHUNK_BYTES)  # augmented at once, with copies of what changes
        ahead = views + int(batch * image)  # the next step's: see staging.py
        return training + kept + views + ahead + 3 * group
    # this batch's images and the next one's wait beside the views
    return memory.resident() + training + views + int(2 * batch * image)


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


def step_groups(settings: Settings, objective: Objective) -> tuple[int, ...]:
    """Rows of each BatchNorm group of a step's gradient pass, as far as they pass in one process."""
    sizes = group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group)
    return own_sizes(sizes, settings.run.batch, world().size)
