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
from ssl_cli.engine import probe
from ssl_cli.errors import DataError
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch, Objective

IMAGES = 32
LOSS_ROWS = 1024
PASS_SECONDS = 0.4
REPEATS = 2


@dataclass(frozen=True)
class Sample:
    """Some images, the seconds that reading one took, and its bytes, both on average."""

    images: list[Tensor]
    read: float
    size: float


@dataclass(frozen=True)
class Pace:
    """Seconds: to read an image, for all else that an image needs, and for the loss of a whole batch."""

    read: float
    image: float
    loss: float

    def step(self, batch: int) -> float:
        """Of one step of `batch` images that are in memory already."""
        return batch * self.image + self.loss


def sample(source: Source | None, size: int) -> Sample:
    """A few images as kept for views of `size` pixels; noise where there is no source, or none of them is good."""
    images: list[Tensor] = []
    began = time.perf_counter()
    if source is not None and len(source):
        wanted = torch.linspace(0, len(source) - 1, min(IMAGES, len(source))).long()
        images = list(source.read_many(wanted)) if isinstance(source, BatchedSource) else _some(source, wanted, size)
    seconds = time.perf_counter() - began
    if not images:
        side = cap_for(size)
        return Sample([torch.arange(3 * side * side).view(3, side, side).to(torch.uint8)] * IMAGES, 0.0, 3 * side**2)
    return Sample(images, seconds / len(images), sum(image.numel() for image in images) / len(images))


def pace(settings: Settings, objective: Objective, few: Sample, *, precision: str, cached: bool, micro: int) -> Pace:
    """Time the parts of a step: augmentation, passes, loss; the objective is left as it was.

    Args:
        settings: of the run.
        objective: on its device, in its memory format.
        few: some images.
        precision: in which rows pass.
        cached: whether each row passes twice.
        micro: rows at once.
    """
    device = next(objective.parameters()).device
    pipeline = Pipeline(settings.augment, settings.data.size, settings.run.seed)
    batch = _batch(len(few.images), few.images).to(device)
    augment = _best(device, lambda: pipeline.stacked(batch, objective.views)) / len(batch)
    x = pipeline.stacked(batch, 1)

    def passes(rows: int, *, backward: bool = True) -> float:
        rows_of_x = x.repeat(math.ceil(rows / len(x)), 1, 1, 1)[:rows]
        return _best(device, lambda: probe.pass_seconds(objective, rows_of_x, precision, backward=backward)) / rows

    rows = probe.at_most(min(micro, PASS_SECONDS / passes(probe.at_most(min(4, micro)))))
    both, forward = passes(rows), passes(rows, backward=False)
    image = augment + objective.gradient_views * (both + (forward if cached else 0)) + objective.key_views * forward
    return Pace(few.read, image, _loss_seconds(objective, settings.run.batch, x))


def run_seconds(pace: Pace, settings: Settings, *, images: int, steps: int, in_memory: bool, device: str) -> float:
    """Seconds of `steps` steps; images are decoded each epoch, or once where all of them stay in memory."""
    batch = settings.run.batch
    threads = settings.data.threads or torch.get_num_threads()
    reading = pace.read * (min(steps * batch, images) if in_memory else steps * batch) / threads
    computing = steps * pace.step(batch)
    # on a CPU decoding takes its time from the network; beside a card it runs along
    return max(reading, computing) if device.startswith("cuda") else reading + computing


def _some(source: Source, wanted: Tensor, size: int) -> list[Tensor]:
    images = []
    for index in wanted.tolist():
        with contextlib.suppress(DataError):
            images.append(source.read(index, cap_for(size)))
    return images


def _loss_seconds(objective: Objective, batch: int, x: Tensor) -> float:
    """Seconds of loss and gradient at a whole batch, `a n + b n^2` as found at two smaller ones."""
    most = min(batch, LOSS_ROWS)
    whole, half = (_loss_at(objective, count, x) for count in (most, max(most // 2, 1)))
    square = max(0.0, whole - 2 * half) * 2 / most**2
    return (whole / most - square * most) * batch + square * batch**2


def _loss_at(objective: Objective, count: int, x: Tensor) -> float:
    with torch.no_grad():
        dim = objective.eval()(x[:2]).shape[-1]
    objective.train()
    z = unit(torch.rand(count * objective.gradient_views, dim, device=x.device) - 0.5).requires_grad_()
    targets, batch = _targets_like(objective, x, count), _batch(count)

    def once() -> None:
        objective.loss(z, targets, batch).backward()  # type: ignore[no-untyped-call]

    return _best(x.device, once)


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
