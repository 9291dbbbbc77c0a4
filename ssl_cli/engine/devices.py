"""Where a run computes."""

import torch

from ssl_cli.errors import UsageError
from ssl_cli.world import world


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
    return _current(device)


def _current(device: torch.device) -> torch.device:
    """The device; a card is from here on the one that is meant where none is named, and looks for its best kernels."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # steps have the same shapes
        if device.index is not None:
            torch.cuda.set_device(device)
    return device


def own_device(name: str) -> torch.device:
    """The device called `name`; of several processes on a machine each has the card of its number."""
    device, where = resolve_device(name), world()
    if device.type == "mps" and where.size > 1:
        raise UsageError("Several processes cannot share a step on MPS.", "Pass --device cpu, or no --devices.")
    if device.type != "cuda" or where.size == 1:
        return device
    if where.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"There are {where.local_size} processes here and {torch.cuda.device_count()} cards.",
            f"Start {torch.cuda.device_count()} processes, or pass --device cpu.",
        )
    return _current(torch.device("cuda", where.local_rank))
