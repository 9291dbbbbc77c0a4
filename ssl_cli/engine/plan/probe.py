"""Short measurements: which arithmetic is fastest here, and the time and memory that rows take to pass."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli.engine.plan import memory
from ssl_cli.engine.plan.footprint import Footprint
from ssl_cli.engine.precision import autocast, tf32
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.library import accepts
from ssl_cli.objective import Objective

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
SIDE = 64
"""Pixels at which arithmetic is compared: what is faster there is faster on larger images too, and found sooner."""
FIRST_ROWS, ROWS = 2, 64
PASS_SECONDS = 0.08
PASSES_SECONDS = 0.3
KERNELS, MOST_KERNELS = 1.25, 1.6
"""Bytes that a pass takes for one that its tensors have: where it cannot be measured, and at most."""
HOLES = 1.04
"""Bytes that many passes one after another take for one that a single pass does: each leaves its own holes."""
LEAST_WEIGHED, MOST_WEIGHED = 8, 64
"""Rows whose passes' memory is measured: fewer drown in what kernels need whatever the rows."""
FAR = 3.0
SECONDS = 2.0
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
            native = "; this processor has bf16 instructions" if self.precision == "bf16" else ""
            return f"not probed: a pass takes too long, or the machine is busy{native}"
        slowest = max(self.times.values())
        ranked = sorted(self.times.items(), key=lambda item: item[1])
        return "probed: " + ", ".join(f"{name} {slowest / seconds:.2f} x" for name, seconds in ranked)


def fastest(
    objective: Objective, size: int, device: torch.device, precisions: Sequence[str], formats: Sequence[str]
) -> Arithmetic:
    """The fastest of all pairs of these, the first of each being the one to beat by a tenth.

    The arms alternate and the best of each counts, so that what else the machine does decides nothing. The first
    round, of two rows, builds kernels, and drops whoever is far behind. The clock is looked at after every pass: where
    two seconds measure nothing, for a large network or on a busy machine, the processor's instructions decide.
    """
    arms = [(precision, layout) for precision in precisions for layout in formats]
    least = min(size, SIDE)
    side = least if accepts(objective.backbone, least, objective.channels) else size  # some take one size alone
    rows = FIRST_ROWS
    times: dict[tuple[str, str], float] = {}
    began = time.perf_counter()
    for turn in range(ROUNDS):
        measured = {}
        for precision, layout in arms:
            objective.to(memory_format=FORMATS[layout])
            x = noise((rows, objective.channels, side, side), device, layout)
            measured[precision, layout] = pass_seconds(objective, x, precision) / rows
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
    best = arms[0] if times or not has_bf16(device) else next((arm for arm in arms if arm[0] == "bf16"), arms[0])
    for arm in arms[1:]:
        if arm in times and times[arm] * WORTHWHILE < times[best]:
            best = arm
    objective.to(memory_format=FORMATS[best[1]])
    return Arithmetic(*best, {f"{precision} {layout}": seconds for (precision, layout), seconds in times.items()})


def products(precision: str, device: torch.device) -> str:
    """What is left to say of products in this precision: that a card rounds what goes into them, where it can."""
    rounds = precision == "fp32" and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "; networks multiply in TF32, losses do not" if rounds else ""


def has_bf16(device: torch.device) -> bool:
    """Whether this type of processor multiplies bf16 by instructions of its own, as far as torch tells."""
    ways = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, way, bool)() for way in ways)


def at_most(rows: float) -> int:
    """The largest power of two up to `rows`, from 2 on: what the machine's libraries are written for."""
    return max(FIRST_ROWS, 1 << max(int(rows), 1).bit_length() - 1)


def pass_seconds(
    objective: Objective,
    x: Tensor,
    precision: str,
    *,
    backward: bool = True,
    sizes: Sequence[int] | None = None,
    moments: Moments | None = None,
) -> float:
    """Seconds of one pass of rows x `(M,3,S,S)` through the network; it and its gradients are left as they were.

    The rows form BatchNorm groups of `sizes`, by default one, whose statistics go to `moments`.
    """
    device = x.device
    wait_for(device)
    began = time.perf_counter()
    with (
        torch.set_grad_enabled(backward),
        grouped(objective, sizes or (len(x),), moments),
        autocast(device, precision)(),
    ):
        z = objective(x)
    if backward:
        with tf32(device):
            z.sum().backward()
    wait_for(device)
    seconds = time.perf_counter() - began
    objective.zero_grad(set_to_none=True)
    return seconds


@dataclass(frozen=True)
class Passes:
    """What two probe passes took.

    Attributes:
        both: seconds a row, forward and backward.
        forward: seconds a row, forward alone.
        taken: bytes at most, by rows; empty where the system does not tell.
    """

    both: float
    forward: float
    taken: dict[int, int]


def passes(objective: Objective, x: Tensor, how: Arithmetic, most: int) -> Passes:
    """Pass up to `most` rows like x `(M,3,S,S)`, as many as a moment allows; the objective is left as it was."""
    times: dict[int, float] = {}
    rows = at_most(min(FIRST_ROWS, most))

    def once(rows: int, *, backward: bool = True) -> float:
        part = x.repeat(-(-rows // len(x)), 1, 1, 1)[:rows].contiguous(memory_format=FORMATS[how.memory_format])
        return pass_seconds(objective, part, how.precision, backward=backward)

    while True:
        first, again = once(rows), once(rows)  # the first pass of a shape builds kernels
        times[rows] = min(first, again)
        if again > PASSES_SECONDS / 2 or 2 * rows > most:
            break
        rows *= 2 if again > PASSES_SECONDS / 8 or 4 * rows > most else 4
    taken = {}
    weighed = min(max(rows, LEAST_WEIGHED), MOST_WEIGHED, max(most, FIRST_ROWS))
    for count in (max(weighed // 8, FIRST_ROWS // 2), weighed):  # far apart, so that noise between them is little
        found = memory.taken_by(lambda count=count: once(count), x.device)  # type: ignore[misc]
        if found is not None:
            taken[count] = found
    return Passes(times[rows] / rows, min(once(rows, backward=False) for _ in range(2)) / rows, taken)


def calibrated(counted: Footprint, plain: Footprint, measured: Passes | None, gradients: int) -> Footprint:
    """What was `counted` corrected by what was measured of `plain` passes: kernels need room of their own.

    `gradients` is bytes of gradients, which count elsewhere.
    """
    if measured is None or len(measured.taken) < 2:
        return Footprint(counted.kept * KERNELS, counted.peak * KERNELS)
    (few, less), (rows, more) = sorted(measured.taken.items())
    share = min(HOLES * max((more - less) / (rows - few) / plain.peak, 1.0), MOST_KERNELS)
    return Footprint(counted.kept, counted.peak * share, max(more - gradients - share * plain.peak * rows, 0.0))


def noise(shape: tuple[int, ...], device: torch.device, layout: str) -> Tensor:
    """Rows of this shape `(M,C,S,S)` that cost what images do."""
    x = torch.empty(shape, device=device).contiguous(memory_format=FORMATS[layout])
    return x.fill_(0.5).add_(torch.linspace(0, 0.5, shape[-1], device=device))


def view_dtype(precision: str) -> torch.dtype:
    """Of views: autocast would round them in any case, and they are most of what a large batch holds."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
