"""Budget: the bytes that a run may take, and what it needs in addition to activations."""

import torch

from ssl_cli import memory
from ssl_cli.augment.pipeline import GPU_CHUNK_BYTES as CHUNK_BYTES
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import cap_for
from ssl_cli.objective import Objective, device_of
from ssl_cli.world import world

AUTO_CPU = 4 * 10**9
ADAM, MOMENTUM = 2, 1
"""Copies of the weights that an optimiser keeps."""
RECORD = 280
"""Bytes of a tensor in a checkpoint in addition to its numbers: name, type, shape and entries of the archive."""


def free(asked: int | None, device: torch.device) -> int:
    """Return the bytes that a measurement may take now, within the budget `asked` for, if any."""
    found, held = memory.free(device), 0 if device.type == "cuda" else memory.resident()
    return found if asked is None else min(found, asked - held)


def budget(asked: int | None, device: torch.device, process: int) -> tuple[int, str]:
    """Return the bytes that a run may take, and why; `process` is what `resident` returns."""
    found, ranks, limited = memory.free(device), world().local_size, memory.within_limits()
    if device.type == "cuda":
        return (int(found * 0.9), "nine tenths of the free GPU memory") if asked is None else (asked, "given")
    choices = [(AUTO_CPU, "leaves memory for other programs; --memory gives more")]
    if limited is not None:
        choices.append((int((limited + process) * 0.9) // ranks, "nine tenths of what the limits here leave"))
    if asked is None and (limited is None or limited > 1.1 * found):  # the machine has less than the limits allow
        choices.append(((found + process) // 2 // ranks, "half of the free memory; --memory gives more"))
    if asked is not None:
        choices[0] = asked, "given"
    return min(choices, key=lambda choice: choice[0])


def cache_bytes(settings: Settings, objective: Objective, limit: int, process: int) -> int:
    """Return the RAM for decoded images: a quarter of what is free, on a CPU of what the budget `limit` leaves."""
    if device_of(objective).type == "cuda":
        return memory.available() // 4 // world().local_size
    image = settings.data.channels * cap_for(settings.data.size) ** 2 * settings.data.bits // 8
    return max(limit - fixed_bytes(settings, objective, "fp32", image, process), 0) // 4


def fixed_bytes(settings: Settings, objective: Objective, precision: str, image: float, process: int) -> int:
    """Estimate the bytes of a run without activations and cached images, which no micro-batch changes.

    On a CPU they include what this `process` holds; on a GPU not the weights, which it holds already. `precision` is
    that of the views, `image` the bytes of a decoded image.
    """
    training = (1 + _optimiser_copies(settings)) * trained_bytes(objective)
    batch, image = -(-settings.run.batch // world().size), image * settings.data.reads
    pixels = settings.data.channels * settings.data.size**2
    views = batch * objective.views * pixels * (2 if precision == "bf16" else 4)
    batch = min(2 * batch, settings.run.batch)  # a rank may have the views of twice as many images
    if device_of(objective).type == "cuda":
        chunk = min(batch * objective.views * pixels * 4, CHUNK_BYTES)  # of augmentation, with two temporaries
        prefetched = views + int(batch * image)
        return training + views + prefetched + 3 * chunk
    return process + training + views + int(2 * batch * image)  # images of this batch and of the next


def trained_bytes(objective: Objective) -> int:
    """Return the bytes of the weights that are trained."""
    return sum(p.numel() * p.element_size() for p in objective.parameters() if p.requires_grad)


def checkpoint_bytes(settings: Settings, objective: Objective) -> int:
    """Estimate the bytes of a checkpoint: weights, state and optimiser, each tensor with its record in the file."""
    trained = [p for p in objective.parameters() if p.requires_grad]
    tensors = [*objective.state_dict().values(), *_optimiser_copies(settings) * trained]
    return sum(tensor.numel() * tensor.element_size() + RECORD for tensor in tensors)


def _optimiser_copies(settings: Settings) -> int:
    return ADAM if settings.optim.name == "adamw" else MOMENTUM if settings.optim.momentum else 0
