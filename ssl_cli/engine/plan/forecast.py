"""How long a run will take: its parts timed for a moment, on images of its own where there are some."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import cap_for
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.engine.plan import probe
from ssl_cli.engine.plan.footprint import AllocationCounter
from ssl_cli.engine.plan.probe import Passes
from ssl_cli.errors import DataError
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch, Objective
from ssl_cli.world import world

IMAGES = 32
AUGMENTED = 256
LOSS_ROWS = 1024
REPEATS = 2


@dataclass(frozen=True)
class Sample:
    """Some images, the seconds that reading one took, and its bytes, both on average."""

    images: list[Tensor]
    read: float
    size: float


@dataclass(frozen=True)
class Pace:
    """Seconds: to read an image, to augment it, for a row's passes, for the loss of a batch; and the loss's bytes."""

    read: float
    augment: float
    passes: Passes
    loss: float
    loss_bytes: int

    def image(self, objective: Objective, extra: float) -> float:
        """All that an image needs once it is in memory, rows passing `extra` times more than once forward."""
        forward = self.passes.forward
        rows = objective.gradient_views * (self.passes.both + extra * forward) + objective.key_views * forward
        return self.augment + rows


def sample(source: Source | None, size: int, channels: int = 3) -> Sample:
    """A few images as kept for views of `size` pixels; noise where there is no source, or none of them is good."""
    images: list[Tensor] = []
    began = time.perf_counter()
    if source is not None and len(source):
        wanted = torch.linspace(0, len(source) - 1, min(IMAGES, len(source))).long()
        images = list(source.read_many(wanted)) if isinstance(source, BatchedSource) else _some(source, wanted, size)
    seconds = time.perf_counter() - began
    if not images:
        side = cap_for(size)
        noise = torch.arange(channels * side**2).view(channels, side, side).to(torch.uint8)
        return Sample([noise] * IMAGES, 0.0, noise.numel())
    return Sample(images, seconds / len(images), sum(image.numel() for image in images) / len(images))


def pace(settings: Settings, objective: Objective, few: Sample, how: probe.Arithmetic, most: int) -> Pace:
    """Time the parts of a step: augmentation, passes of up to `most` rows, loss; the objective is left as it was."""
    device = next(objective.parameters()).device
    pipeline = Pipeline(settings.views, settings.data.size, settings.run.seed)
    images = few.images * max(1, min(settings.run.batch, AUGMENTED) // len(few.images))
    batch = _batch(len(images), images).to(device)
    augment = _best(device, lambda: pipeline.stacked(batch, objective.views)) / len(batch)
    x = pipeline.stacked(_batch(len(few.images), few.images).to(device), 1)
    passes = probe.passes(objective, x, how, most)
    return Pace(few.read, augment, passes, *_loss(objective, settings.run.batch, x))


def run_seconds(
    pace: Pace, image: float, settings: Settings, *, images: int, steps: int, in_memory: bool, device: str
) -> float:
    """Seconds of `steps` steps; images are decoded each epoch, or once where all of them stay in memory."""
    batch = settings.run.batch / world().size
    threads = settings.data.threads or torch.get_num_threads()
    reading = pace.read * (min(steps * batch, images) if in_memory else steps * batch) / threads
    computing = steps * (batch * image + pace.loss)
    # on a CPU decoding takes its time from the network; beside a card it runs along
    return max(reading, computing) if device.startswith("cuda") else reading + computing


def _some(source: Source, wanted: Tensor, size: int) -> list[Tensor]:
    images = []
    for index in wanted.tolist():
        with contextlib.suppress(DataError):
            images.append(source.read(index, cap_for(size)))
    return images


def _loss(objective: Objective, batch: int, x: Tensor) -> tuple[float, int]:
    """Seconds of loss and gradient at a whole batch, `a n + b n^2` as found at two smaller ones; and bytes, linear."""
    most = min(batch, LOSS_ROWS)
    (whole, more), (half, less) = (_loss_at(objective, count, x) for count in (most, max(most // 2, 1)))
    square = max(0.0, whole - 2 * half) * 2 / most**2
    growth = max(more - less, 0) / max(most - most // 2, 1)
    return (whole / most - square * most) * batch + square * batch**2, int(more + growth * (batch - most))


def _loss_at(objective: Objective, count: int, x: Tensor) -> tuple[float, int]:
    with torch.no_grad():
        dim = objective.eval()(x[:2]).shape[-1]
    objective.train()
    z = unit(torch.rand(count * objective.gradient_views, dim, device=x.device) - 0.5).requires_grad_()
    targets, batch = _targets_like(objective, x, count), _batch(count)

    def once() -> None:
        objective.loss(z, targets, batch).backward()  # type: ignore[no-untyped-call]

    seconds = _best(x.device, once)
    with AllocationCounter() as ledger:
        once()
    return seconds, ledger.peak


def _targets_like(objective: Objective, x: Tensor, count: int) -> Tensor | None:
    """Targets of the right shape for `count` images: those of a few, repeated."""
    if not objective.has_targets:
        return None
    with torch.no_grad():
        found = objective.targets([x[:2]] * objective.views, _batch(2))
    return None if found is None else found.repeat(math.ceil(count / 2), *[1] * (found.dim() - 1))[:count]


def _batch(count: int, images: Sequence[Tensor] = ()) -> Batch:
    """The first images of the data; labels are of the first class, for whoever looks at them."""
    return Batch(images, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def _best(device: torch.device, call: Callable[[], object]) -> float:
    """The best of a few, in seconds: as the call says, or as the clock does."""
    times = []
    for _ in range(REPEATS):
        probe.wait_for(device)
        began = time.perf_counter()
        told = call()
        probe.wait_for(device)
        times.append(told if isinstance(told, float) else time.perf_counter() - began)
    return min(times)
