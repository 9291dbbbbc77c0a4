"""Short measurements on the machine at hand: which precision is faster, what a row of activations weighs."""

import time

import torch
from torch import Tensor

from ssl_cli.engine.backward import autocast
from ssl_cli.nn.batchnorm import grouped
from ssl_cli.objective import Objective

ROWS = 64
REPEATS = 5
WORTHWHILE = 1.1


def faster_precision(objective: Objective, size: int, device: torch.device) -> tuple[str, str]:
    """`bf16` where a training pass is at least a tenth faster than in float32, else `fp32`, and the reason.

    The arms alternate and the best of each counts, so that what else the machine does decides nothing.
    """
    x = torch.rand(ROWS, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for repeat in range(REPEATS + 1):
        for precision, measured in times.items():
            start = time.perf_counter()
            with grouped(objective, (ROWS,)), autocast(device, precision)():
                z = objective(x)
            z.sum().backward()
            if repeat:  # the first builds kernels
                measured.append(time.perf_counter() - start)
    objective.zero_grad()
    gain = min(times["fp32"]) / min(times["bf16"])
    return ("bf16" if gain >= WORTHWHILE else "fp32"), f"probed: bf16 is {gain:.2f} x as fast as fp32"


def bytes_per_row(objective: Objective, size: int, device: torch.device, precision: str, rows: int = 8) -> int:
    """Bytes that autograd keeps for one row between forward and backward."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.rand(rows, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, grouped(objective, (rows,)), autocast(device, precision)():
        z = objective(x)
    weights = sum(p.numel() * 2 for p in objective.parameters() if p.requires_grad) if precision == "bf16" else 0
    total = sum(kept.values()) - weights  # casts of weights are kept too, once whatever the rows
    del z
    return max(total // rows, 1)
