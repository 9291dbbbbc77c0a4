"""How long a run will take: its parts timed for a moment, on images of its own where there are some."""

import math
import time
from collections.abc import Callable
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
REPEATS = 3


@dataclass(frozen=True)
class Pace:
    """Seconds: to read an image, for all else that an image needs, and for the loss of a whole batch."""

    read: float
    image: float
    loss: float

    def step(self, batch: int) -> float:
        """Of one step of `batch` images that are in memory already."""
        return batch * self.image + self.loss


def pace(
    settings: Settings, objective: Objective, source: Source | None, *, precision: str, cached: bool, micro: int
) -> Pace:
    """Time the parts of a step: reading, augmentation, passes, loss; the objective is left as it was.

    Args:
        settings: of the run.
        objective: on its device, in its memory format.
        source: some images to time on; None: noise of the size that would be kept.
        precision: in which rows pass.
        cached: whether each row passes twice.
        micro: rows at once.
    """
    device = next(objective.parameters()).device
    read, images = _read(source, settings.data.size)
    pipeline = Pipeline(settings.augment, settings.data.size, settings.run.seed)
    batch = Batch(images, torch.full((len(images),), -1), torch.arange(len(images))).to(device)
    augment = _best(lambda: pipeline.stacked(batch, objective.views)) / len(images)
    x = pipeline.stacked(batch, 1)
    rows = min(8, micro)
    first = _best(lambda: probe.pass_seconds(objective, _rows(x, rows), precision), 2) / rows
    rows = max(2, min(micro, int(PASS_SECONDS / first)))
    both = _best(lambda: probe.pass_seconds(objective, _rows(x, rows), precision), 2) / rows
    forward = _best(lambda: probe.pass_seconds(objective, _rows(x, rows), precision, backward=False), 2) / rows
    image = augment + objective.gradient_views * (both + (forward if cached else 0)) + objective.key_views * forward
    return Pace(read, image, _loss_seconds(objective, settings.run.batch, x, precision))


def run_seconds(pace: Pace, settings: Settings, *, images: int, steps: int, in_memory: bool, device: str) -> float:
    """Seconds of `steps` steps; images are decoded each epoch, or once where all of them stay in memory."""
    batch = settings.run.batch
    threads = settings.data.threads or torch.get_num_threads()
    reading = pace.read * (min(steps * batch, images) if in_memory else steps * batch) / threads
    computing = steps * pace.step(batch)
    # on a CPU decoding takes its time from the network; beside a card it runs along
    return max(reading, computing) if device.startswith("cuda") else reading + computing


def _read(source: Source | None, size: int) -> tuple[float, list[Tensor]]:
    """Seconds an image, and some images."""
    if source is None or not len(source):
        side = cap_for(size)
        return 0.0, [torch.arange(3 * side * side).view(3, side, side).to(torch.uint8)] * IMAGES
    wanted = torch.linspace(0, len(source) - 1, min(IMAGES, len(source))).long()
    began = time.perf_counter()
    if isinstance(source, BatchedSource):
        images = list(source.read_many(wanted))
    else:
        images = []
        for index in wanted.tolist():
            try:
                images.append(source.read(index, cap_for(size)))
            except DataError:
                continue
    seconds = (time.perf_counter() - began) / len(wanted)
    return (seconds, images) if images else _read(None, size)


def _loss_seconds(objective: Objective, batch: int, x: Tensor, precision: str) -> float:
    """Seconds of loss and gradient at the z of a whole batch, scaled up from a smaller one."""
    few = min(batch, LOSS_ROWS)
    with torch.no_grad():
        dim = objective.eval()(x[:2]).shape[-1]
    objective.train()
    views = objective.gradient_views
    z = unit(torch.rand(few * views, dim, device=x.device) - 0.5).requires_grad_()
    targets = _targets_like(objective, x, few)
    part = Batch([], torch.full((few,), -1), torch.arange(few))

    def once() -> None:
        objective.loss(z, targets, part).backward()  # type: ignore[no-untyped-call]

    grows = objective.negatives(2 * few) != objective.negatives(few)  # then each anchor has more of them too
    return _best(once, 2) * (batch / few) ** (2 if grows else 1)


def _targets_like(objective: Objective, x: Tensor, count: int) -> Tensor | None:
    """Targets of the right shape for `count` images: those of a few, repeated."""
    if not objective.has_targets:
        return None
    few = Batch([], torch.full((2,), -1), torch.arange(2))
    with torch.no_grad():
        found = objective.targets([x[:2]] * objective.views, few)
    return None if found is None else found.repeat(math.ceil(count / 2), *[1] * (found.dim() - 1))[:count]


def _rows(x: Tensor, count: int) -> Tensor:
    return x.repeat(math.ceil(count / len(x)), 1, 1, 1)[:count]


def _best(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """The best of a few, in seconds: as the call says, or as the clock does."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        told = call()
        times.append(told if isinstance(told, float) else time.perf_counter() - began)
    return min(times)
