"""Measure on this device: the fastest precision, and the time and memory of a step's parts."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.data.sample import Sample
from ssl_cli.errors import convert_exception
from ssl_cli.nn.activations import AllocationCounter
from ssl_cli.nn.batchnorm import grouped
from ssl_cli.nn.heads import unit
from ssl_cli.nn.library import accepts
from ssl_cli.nn.precision import MEMORY_FORMATS, autocast, tf32
from ssl_cli.objective import Batch, Objective, device_of

SIDE = 64
"""Pixels at which precisions are compared: what is faster there is faster on larger images, and takes less time."""
FIRST_ROWS, MAX_ROWS = 2, 64
PASS_SECONDS, MAX_PASS_SECONDS = 0.08, 0.3
COMPARE_SECONDS, ROUNDS = 2.0, 6
FAR, WORTHWHILE = 3.0, 1.1
"""Candidates slower by the first factor are dropped; a candidate has to be faster than the default by the second."""
MIN_PEAK_ROWS, MAX_PEAK_ROWS = 8, 64
"""Rows whose memory is measured: with fewer, what kernels need for any number of rows hides the slope."""
AUGMENTED, LOSS_IMAGES = 256, 1024
SATURATED_ROWS = 512


@dataclass(frozen=True)
class Arithmetic:
    """Precision and memory format of the network, and seconds a row (forward and backward) of each candidate."""

    precision: str
    memory_format: str
    times: dict[str, float]

    @property
    def reason(self) -> str:
        """Describe the measurement in words."""
        if not self.times:
            native = "; this processor has bf16 instructions" if self.precision == "bf16" else ""
            return f"not probed: a step takes too long, or the machine is busy{native}"
        slowest = max(self.times.values())
        ranked = sorted(self.times.items(), key=lambda item: item[1])
        found = "probed: " + ", ".join(f"{name} {slowest / seconds:.2f} x" for name, seconds in ranked)
        default = ranked[0][0] != f"{self.precision} {self.memory_format}"
        return found + f"; one faster by less than {WORTHWHILE:g} x changes no default" * default


@dataclass(frozen=True)
class StepCost:
    """Measured time and memory of the parts of a step.

    Attributes:
        read: seconds to read an image.
        augment: seconds to make all views of an image.
        forward_backward: seconds per row of a forward and backward pass.
        forward: seconds per row of a forward pass.
        peaks: peak bytes of a forward and backward pass, by rows; empty where the system does not report them.
        loss: seconds of the loss of a batch and its gradient.
        loss_bytes: bytes of the same.
        smallest: seconds of an image whose views are the smallest, as a share of those of full size.
    """

    read: float
    augment: float
    forward_backward: float
    forward: float
    peaks: dict[int, int]
    loss: float
    loss_bytes: int
    smallest: float = 1.0

    def image(self, objective: Objective, recomputed: float) -> float:
        """Return the seconds of an image once it is read; each row is recomputed `recomputed` times."""
        rows = objective.gradient_views * (self.forward_backward + recomputed * self.forward)
        return self.augment + rows + objective.key_views * self.forward


def fastest(
    objective: Objective, size: int, device: torch.device, precisions: Sequence[str], formats: Sequence[str]
) -> Arithmetic:
    """Choose the fastest pair of precision and memory format; the first of each unless another is faster by a tenth.

    Candidates alternate and the best round of each counts, so that other work of the machine favours none. The first
    round, of two rows, also builds kernels and drops candidates that are far behind. Where two seconds are too short
    to measure anything, the processor's instructions decide.
    """
    candidates = [(precision, layout) for precision in precisions for layout in formats]
    smallest = min(size, SIDE)
    side = smallest if accepts(objective.backbone, smallest, objective.channels) else size
    rows, times = FIRST_ROWS, dict[tuple[str, str], float]()
    start = time.perf_counter()
    for turn in range(ROUNDS):
        measured = {}
        for precision, layout in candidates:
            objective.to(memory_format=MEMORY_FORMATS[layout])
            x = _noise((rows, objective.channels, side, side), device, layout)
            measured[precision, layout] = pass_seconds(objective, x, precision) / rows
            if time.perf_counter() - start > COMPARE_SECONDS:
                break
        if len(measured) < len(candidates):
            break
        if turn:
            times = {pair: min(times.get(pair, seconds), seconds) for pair, seconds in measured.items()}
        else:
            best_seconds = min(measured.values())
            candidates = [pair for pair in candidates if measured[pair] <= FAR * best_seconds or pair == candidates[0]]
            rows = power_of_two(min(MAX_ROWS, PASS_SECONDS / best_seconds))
    best = candidates[0]
    if not times and has_bf16(device):
        best = next((pair for pair in candidates if pair[0] == "bf16"), best)
    for pair in candidates[1:]:
        if pair in times and times[pair] * WORTHWHILE < times[best]:
            best = pair
    objective.to(memory_format=MEMORY_FORMATS[best[1]])
    return Arithmetic(*best, {f"{precision} {layout}": seconds for (precision, layout), seconds in times.items()})


def choose_arithmetic(
    objective: Objective, size: int, device: torch.device, precision: str, layout: str
) -> tuple[Arithmetic, str]:
    """Choose precision and memory format where they are `auto`, and say why: given, known to be best, or measured."""
    formats = [layout] if layout != "auto" else ["contiguous" if device.type == "mps" else "channels_last"]
    if precision != "auto":
        precisions, why = [precision], "given"
    elif device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        precisions, why = (["bf16"], "this GPU has bf16") if native else (["fp32"], "this GPU lacks bf16")
    elif device.type == "mps":
        precisions, why = ["fp32"], "safest on this device"
    else:
        precisions, why = ["fp32", "bf16"], ""
    if layout == "auto" and device.type == "cpu":
        formats = ["channels_last", "contiguous"]
    if len(precisions) == len(formats) == 1:
        return Arithmetic(precisions[0], formats[0], {}), why
    found = fastest(objective, size, device, precisions, formats)
    return found, found.reason


def row_seconds(objective: Objective, size: int, device: torch.device, arithmetic: Arithmetic) -> float:
    """Measure the seconds per row of a forward and a backward pass.

    Rows are quadrupled until a pass takes 0.08 s, has 512 rows or more, or the next one is out of memory.
    """
    rows, seconds = FIRST_ROWS, math.inf
    try:
        while seconds * rows < PASS_SECONDS or rows == FIRST_ROWS:
            x = _noise((rows, objective.channels, size, size), device, arithmetic.memory_format)
            seconds = min(pass_seconds(objective, x, arithmetic.precision) for _ in range(2)) / rows
            if rows >= SATURATED_ROWS:
                break
            rows *= 4
    except Exception as error:
        if seconds == math.inf or not convert_exception(error).out_of_memory:
            raise
    return seconds


def has_bf16(device: torch.device) -> bool:
    """Return whether this is a CPU with bf16 instructions, as far as torch reports them."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, check, bool)() for check in checks)


def power_of_two(rows: float) -> int:
    """Return the largest power of two up to `rows`, at least 2."""
    return max(FIRST_ROWS, 1 << max(int(rows), 1).bit_length() - 1)


def measure_step(
    objective: Objective, pipeline: Pipeline, sample: Sample, batch: int, arithmetic: Arithmetic, *,
    max_rows: int, available: int, smallest: Pipeline,
) -> StepCost:  # fmt: skip
    """Measure augmentation, forward and backward passes of up to `max_rows` rows, and the loss of a batch.

    The views of the pipeline `smallest` are compared with those of full size.

    Note:
        The objective is left unchanged. Rows are added only while they are expected to fit in `available` bytes.
    """
    device = device_of(objective)
    images = sample.images * max(1, min(batch, AUGMENTED) // len(sample.images))
    many = _batch(len(images), images).to(device)

    def made(by: Pipeline) -> float:
        return min(_seconds(device, lambda: by.stacked(many, objective.views)) for _ in range(2)) / len(images)

    augment = made(pipeline)
    x = pipeline.stacked(_batch(len(sample.images), sample.images).to(device), 1)
    rows, both, forward, peaks = _measure_passes(objective, x, arithmetic, max_rows, available)
    loss, loss_bytes = _measure_loss(objective, batch, x)
    cost = StepCost(sample.read_seconds, augment, both, forward, peaks, loss, loss_bytes)
    if smallest.size == pipeline.size:
        return cost
    share = _share_of_pass(objective, x.repeat(-(-rows // len(x)), 1, 1, 1)[:rows], arithmetic, smallest.size)
    whole = cost.image(objective, 0)
    return replace(cost, smallest=min((made(smallest) + share * (whole - augment)) / whole, 1.0))


def pass_seconds(objective: Objective, x: Tensor, precision: str, *, backward: bool = True) -> float:
    """Return the seconds of a forward (and backward) pass of rows x `(M,C,S,S)` as one BatchNorm group.

    Note:
        Weights and running statistics are left unchanged, gradients are cleared.
    """

    def run() -> None:
        with torch.set_grad_enabled(backward), grouped(objective, (len(x),)), autocast(x.device, precision)():
            z = objective(x)
        if backward:
            with tf32(x.device):
                z.sum().backward()

    seconds = _seconds(x.device, run)
    objective.zero_grad(set_to_none=True)
    return seconds


def synchronize(device: torch.device) -> None:
    """Wait until all kernels that were launched on the device have finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _measure_passes(
    objective: Objective, x: Tensor, arithmetic: Arithmetic, max_rows: int, available: int
) -> tuple[int, float, float, dict[int, int]]:
    """Return how many rows were timed, seconds a row of forward and backward, of forward alone, and peaks by rows."""
    grown, peaks = dict[int, int](), dict[int, int]()
    layout = MEMORY_FORMATS[arithmetic.memory_format]

    def run(rows: int, *, backward: bool = True) -> float:
        part = x.repeat(-(-rows // len(x)), 1, 1, 1)[:rows].contiguous(memory_format=layout)
        return pass_seconds(objective, part, arithmetic.precision, backward=backward)

    def measure_peak(rows: int, peaks: dict[int, int]) -> float:
        times = list[float]()
        peak = memory.peak_during(lambda: times.append(run(rows)), x.device)
        peaks |= {} if peak is None else {rows: peak}
        return times[0]

    rows, limit = 0, max(max_rows, FIRST_ROWS)
    candidates: tuple[int, ...] = (FIRST_ROWS,)
    while more := next((count for count in candidates if count <= limit and _fits(grown, count, available)), 0):
        try:
            first, again = measure_peak(more, grown), run(more)  # the first pass of a shape builds kernels
        except Exception as error:
            if not rows or not convert_exception(error).out_of_memory:
                raise
            objective.zero_grad(set_to_none=True)
            available = 0
            break
        rows, seconds = more, min(first, again)
        slow = again > MAX_PASS_SECONDS / 8
        candidates = () if again > MAX_PASS_SECONDS / 2 else (2 * rows,) if slow else (4 * rows, 2 * rows)
    peak_rows = min(max(rows, MIN_PEAK_ROWS), MAX_PEAK_ROWS, limit)
    peak_rows = peak_rows if peak_rows <= rows or _fits(grown, peak_rows, available) else rows
    for count in (max(peak_rows // 8, FIRST_ROWS // 2), peak_rows):  # far apart, so that noise matters little
        measure_peak(count, peaks)
    return rows, seconds / rows, min(run(rows, backward=False) for _ in range(2)) / rows, peaks


def _share_of_pass(objective: Objective, x: Tensor, arithmetic: Arithmetic, side: int) -> float:
    """Return the seconds of a pass of views of `side` pixels, as a share of those of the whole views x."""
    layout, times = MEMORY_FORMATS[arithmetic.memory_format], [math.inf, math.inf]
    parts = [x[..., :each, :each].contiguous(memory_format=layout) for each in (side, x.shape[-1])]
    for turn in range(3):  # the first passes of a shape build kernels
        for i, part in enumerate(parts):
            seconds = pass_seconds(objective, part, arithmetic.precision)
            times[i] = min(times[i], seconds) if turn else math.inf
    return min(times[0] / times[1], 1.0)


def _fits(peaks: dict[int, int], rows: int, available: int) -> bool:
    """Return whether the peak bytes of a pass of `rows`, extrapolated from those measured, fit in `available`."""
    if not peaks:
        return True
    (few, low), (many, high) = [(0, 0), *sorted(peaks.items())][-2:]
    return high + max(high - low, 0) / (many - few) * (rows - many) <= available


def _measure_loss(objective: Objective, batch: int, x: Tensor) -> tuple[float, int]:
    """Return seconds, `a n + b n^2` fitted at two smaller sizes, and bytes, linear, of loss and gradient of a batch."""
    most = min(batch, LOSS_IMAGES)
    (seconds, high), (half, low) = (_loss_at(objective, count, x) for count in (most, max(most // 2, 1)))
    square = max(0.0, seconds - 2 * half) * 2 / most**2
    slope = max(high - low, 0) / max(most - most // 2, 1)
    return (seconds / most - square * most) * batch + square * batch**2, int(high + slope * (batch - most))


def _loss_at(objective: Objective, count: int, x: Tensor) -> tuple[float, int]:
    with torch.no_grad():
        dim = objective.eval()(x[:2]).shape[-1]
    objective.train()
    z = unit(torch.rand(count * objective.gradient_views, dim, device=x.device) - 0.5).requires_grad_()
    targets, batch = _targets_like(objective, x, count), _batch(count)

    def run() -> None:
        objective.loss(z, targets, batch).backward()  # type: ignore[no-untyped-call]

    seconds = min(_seconds(x.device, run) for _ in range(2))
    with AllocationCounter() as counter:
        run()
    return seconds, counter.peak


def _targets_like(objective: Objective, x: Tensor, count: int) -> Tensor | None:
    """Return targets of the shape of those of `count` images: the targets of two, repeated."""
    if not objective.has_targets:
        return None
    with torch.no_grad():
        targets = objective.targets([x[:2]] * objective.views, _batch(2))
    return None if targets is None else targets.repeat(math.ceil(count / 2), *[1] * (targets.dim() - 1))[:count]


def _batch(count: int, images: Sequence[Tensor] = ()) -> Batch:
    return Batch(images, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def _noise(shape: tuple[int, ...], device: torch.device, layout: str) -> Tensor:
    x = torch.empty(shape, device=device).contiguous(memory_format=MEMORY_FORMATS[layout])
    return x.fill_(0.5).add_(torch.linspace(0, 0.5, shape[-1], device=device))


def _seconds(device: torch.device, call: Callable[[], object]) -> float:
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start
