"""Short measurements: what a row of activations weighs, which arithmetic is fastest here, how long a step takes."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli.engine.backward import autocast
from ssl_cli.nn.batchnorm import grouped
from ssl_cli.nn.borrowed import accepts
from ssl_cli.objective import Objective

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
SIDE = 64
"""Pixels at which arithmetic is compared: what is faster there is faster on larger images too, and found sooner."""
FIRST_ROWS, ROWS = 2, 64
PASS_SECONDS = 0.08
FAR = 3.0
SECONDS = 1.5
ROUNDS = 6
WORTHWHILE = 1.1


@dataclass(frozen=True)
class Arithmetic:
    """How the network computes, and what was measured of it; `times` are seconds a row, forward and backward."""

    precision: str
    memory_format: str
    times: dict[str, float]

    @property
    def reason(self) -> str:
        """The measurement in words."""
        if not self.times:
            return "not probed: a pass takes too long here"
        slowest = max(self.times.values())
        ranked = sorted(self.times.items(), key=lambda item: item[1])
        return "probed: " + ", ".join(f"{name} {slowest / seconds:.2f} x" for name, seconds in ranked)


def fastest(
    objective: Objective, size: int, device: torch.device, precisions: Sequence[str], formats: Sequence[str]
) -> Arithmetic:
    """The fastest of all pairs of these, the first of each being the one to beat by a tenth.

    The arms alternate and the best of each counts, so that what else the machine does decides nothing. The first
    round, of two rows, builds kernels, and drops whoever is far behind. The clock is looked at after every pass: of a
    network too large to be measured in a second and a half, the first arm is taken.
    """
    arms = [(precision, layout) for precision in precisions for layout in formats]
    side = min(size, SIDE) if accepts(objective.backbone, min(size, SIDE)) else size  # some take one size alone
    rows = FIRST_ROWS
    times: dict[tuple[str, str], float] = {}
    began = time.perf_counter()
    for turn in range(ROUNDS):
        measured = {}
        for precision, layout in arms:
            objective.to(memory_format=FORMATS[layout])
            measured[precision, layout] = pass_seconds(objective, _noise(rows, side, device, layout), precision) / rows
            if time.perf_counter() - began > SECONDS:
                break
        if len(measured) < len(arms):
            break
        if turn:
            times = {arm: min(times.get(arm, seconds), seconds) for arm, seconds in measured.items()}
        else:
            fair = min(measured.values())
            arms = [arm for arm in arms if measured[arm] <= FAR * fair or arm == arms[0]]
            rows = at_most(min(ROWS, PASS_SECONDS / fair))
    best = arms[0]
    for arm in arms[1:]:
        if arm in times and times[arm] * WORTHWHILE < times[best]:
            best = arm
    objective.to(memory_format=FORMATS[best[1]])
    return Arithmetic(*best, {f"{precision} {layout}": seconds for (precision, layout), seconds in times.items()})


def at_most(rows: float) -> int:
    """The largest power of two up to `rows`, from 2 on: what the machine's libraries are written for."""
    return max(FIRST_ROWS, 1 << max(int(rows), 1).bit_length() - 1)


def pass_seconds(objective: Objective, x: Tensor, precision: str, *, backward: bool = True) -> float:
    """Seconds of one pass of rows x `(M,3,S,S)` through the network; it and its gradients are left as they were."""
    device = x.device
    wait_for(device)
    began = time.perf_counter()
    with torch.set_grad_enabled(backward), grouped(objective, (len(x),)), autocast(device, precision)():
        z = objective(x)
    if backward:
        z.sum().backward()
    wait_for(device)
    seconds = time.perf_counter() - began
    objective.zero_grad(set_to_none=True)
    return seconds


def bytes_per_row(objective: Objective, size: int, precision: str, rows: int = 8) -> int:
    """Bytes that autograd keeps for one row between forward and backward, on any device.

    Counted on the meta device, where tensors have shapes and no memory: bf16 is what autocast would make of the
    backbone. A user's own network that cannot run there passes its rows for real.
    """
    try:
        twin = copy.deepcopy(objective).to("meta")
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        twin.backbone.to(kind)
        return _kept(twin, torch.empty(rows, 3, size, size, device="meta", dtype=kind), "fp32")
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        device = next(objective.parameters()).device
        return _kept(objective, _noise(rows, size, device, "channels_last"), precision)


def _kept(objective: Objective, x: Tensor, precision: str) -> int:
    kept: dict[int, Tensor] = {}
    weights = {p.untyped_storage()._cdata for p in objective.parameters()}  # linear layers keep views of them

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no storage takes another's number
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with torch.enable_grad(), hooks, grouped(objective, (len(x),)), autocast(x.device, precision)():
        z = objective(x)
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    if precision == "bf16":  # casts of weights are kept too, once whatever the rows
        total -= sum(p.numel() * 2 for p in objective.parameters() if p.requires_grad)
    del z
    return max(total // len(x), 1)


def _noise(rows: int, side: int, device: torch.device, layout: str) -> Tensor:
    x = torch.empty(rows, 3, side, side, device=device).contiguous(memory_format=FORMATS[layout])
    return x.fill_(0.5).add_(torch.linspace(0, 0.5, side, device=device))


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
