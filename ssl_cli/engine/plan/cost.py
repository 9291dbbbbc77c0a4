"""Estimate what a run needs for any micro-batch plan, and choose the one that fits the budget."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.data.source import Source
from ssl_cli.engine.plan import memory
from ssl_cli.engine.plan.activations import calibrate, count_activations
from ssl_cli.engine.plan.divide import ActivationBytes, MicroBatchPlan, Mode, divide, saturating_rows
from ssl_cli.engine.plan.measure import Arithmetic, Sample, StepCost, measure_step, read_sample
from ssl_cli.engine.rows import group_sizes, local_group_sizes
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.objective import Objective
from ssl_cli.world import world

MARGIN = 1.05
"""Graphs and images are kept in a budget smaller by this factor: estimates may be too low by as much."""
GPU_CACHE_PART = 8
"""Images may take one part in so many of a GPU's budget."""
LARGEST_BATCH = 1 << 24


def local_groups(settings: Settings, objective: Objective) -> tuple[int, ...]:
    """Return the rows of each BatchNorm group of a step's gradient views that one rank runs."""
    sizes = group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group)
    return local_group_sizes(sizes, settings.run.batch, world().size)


@dataclass(frozen=True)
class CostModel:
    """Estimate of the bytes and seconds of a run; `cost` is None where a user's method could not be measured.

    `process` is the bytes that this process holds; see `memory.fixed_bytes`.
    """

    objective: Objective
    size: int
    precision: str
    sample: Sample
    cost: StepCost | None
    process: int

    @property
    def device(self) -> torch.device:
        """Return the device of the objective."""
        return next(self.objective.parameters()).device

    def activations(self, checkpointing: bool) -> ActivationBytes:
        """Return the memory estimate of a row's activations."""
        return self._checkpointed if checkpointing else self._calibrated(self._counted)

    @cached_property
    def _counted(self) -> ActivationBytes:
        return count_activations(self.objective, self.size, self.precision)

    @cached_property
    def _checkpointed(self) -> ActivationBytes:
        return self._calibrated(count_activations(self.objective, self.size, self.precision, checkpointing=True))

    def _calibrated(self, counted: ActivationBytes) -> ActivationBytes:
        peaks = self.cost.peaks if self.cost else {}
        return calibrate(counted, self._counted, peaks, memory.trained_bytes(self.objective))

    def fixed(self, settings: Settings) -> int:
        """Return the bytes without activations and cached images."""
        image, loss = self.sample.image_bytes, self.cost.loss_bytes if self.cost else 0
        return loss + memory.fixed_bytes(settings, self.objective, self.device, self.precision, image, self.process)

    def divide(self, settings: Settings, room: int, mode: Mode | None = None) -> MicroBatchPlan | None:
        """Divide the batch for `room` bytes of activations, in the mode of the settings unless another is given."""
        sizes, hardware = local_groups(settings, self.objective), settings.hardware
        device = self.device.type
        return divide(
            sizes, self.activations, room, mode=mode or hardware.mode, micro_batch=hardware.micro_batch, device=device
        )

    def run_seconds(self, settings: Settings, images: int, recomputed: float, *, decoded_once: bool) -> float | None:
        """Estimate the seconds of a run over `images`, whose rows are `recomputed` so many times."""
        if self.cost is None:
            return None
        steps, batch = images // settings.run.batch * settings.schedule.epochs, settings.run.batch / world().size
        read = min(steps * batch, images) if decoded_once else steps * batch
        reading = self.cost.read * read / (settings.data.threads or torch.get_num_threads())
        computing = steps * (batch * self.cost.image(self.objective, recomputed) + self.cost.loss)
        # a GPU computes while the CPU decodes; on a CPU one takes time from the other
        return max(reading, computing) if self.device.type == "cuda" else reading + computing

    def largest_batches(self, settings: Settings, limit: int) -> dict[Mode, int]:
        """Estimate the largest batch of each mode that fits `limit` bytes, to a sixteenth; 0 where none does."""
        return {mode: self._largest_batch(settings, limit, mode) for mode in ("direct", "checkpointed", "cached")}

    def _largest_batch(self, settings: Settings, limit: int, mode: Mode) -> int:
        def fits(batch: int) -> bool:
            run = settings.run.model_copy(update={"batch": batch})
            larger = settings.model_copy(update={"run": run})
            found = self.divide(larger, limit - self.fixed(larger), mode)
            return found is not None and (mode == "cached" or found.kept_graphs == found.count)

        batch = 1
        while batch < LARGEST_BATCH and fits(2 * batch):
            batch *= 2
        for part in (batch // 2, batch // 4, batch // 8, batch // 16):
            batch += part if part and fits(batch + part) else 0
        return batch if fits(batch) else 0


@dataclass(frozen=True)
class ImageCache:
    """Where decoded images are cached.

    Attributes:
        place: where.
        reason: why.
        held: bytes of the run's budget that they take: of GPU memory on a GPU, else of RAM.
        beyond: bytes of RAM above the budget, with `--cache ram`.
    """

    place: str
    reason: str
    held: int
    beyond: int = 0

    @property
    def decoded_once(self) -> bool:
        """Return whether all images are cached."""
        return self.place != NOWHERE

    @property
    def gpu_bytes(self) -> int:
        """Return the bytes of GPU memory that they take."""
        return self.held if self.place == IN_GPU_MEMORY else 0


IN_GPU_MEMORY, IN_RAM, NOWHERE = "in GPU memory", "in RAM", "none"


@dataclass(frozen=True)
class Fit:
    """Micro-batches and image cache that fit the budget.

    Attributes:
        model: the estimate that they are based on.
        division: the micro-batches.
        cache: of decoded images.
        cache_bytes: RAM for it.
        budget: bytes that the run may take.
        reason: why so many.
        fixed: bytes without activations, cached images included.
    """

    model: CostModel
    division: MicroBatchPlan
    cache: ImageCache
    cache_bytes: int
    budget: int
    reason: str
    fixed: int

    @property
    def row_bytes(self) -> float:
        """Return the peak bytes of a row's activations."""
        return self.model.activations(self.division.checkpointing).peak

    @property
    def resolved(self) -> dict[str, Any]:
        """Return the fields of `Resolved` that are chosen here."""
        names = ("mode", "micro_batch", "kept_graphs", "checkpointing")
        return {name: getattr(self.division, name) for name in names} | {"gpu_cache_bytes": self.cache.gpu_bytes}


def fit(settings: Settings, objective: Objective, arithmetic: Arithmetic, images: int, source: Source | None) -> Fit:
    """Measure a step, read the free memory, and choose micro-batches and image cache of a run over `images`.

    Raises:
        ResourceError: not even the smallest micro-batch fits.
        UsageError: the micro-batch asked for would split a BatchNorm group.
    """
    sizes, asked = local_groups(settings, objective), settings.hardware.micro_batch
    if asked is not None and asked < max(sizes):
        raise UsageError(
            f"--micro-batch {asked} is smaller than a BatchNorm group of {max(sizes)} rows.",
            f"Pass at least {max(sizes)}, or change who shares statistics with --set model.bn_group={asked}.",
        )
    model = _measure(settings, objective, arithmetic, source)
    limit, reason = memory.budget(settings.hardware.memory, model.device, model.process)
    cache_bytes = memory.cache_bytes(settings, objective, model.device, limit, model.process)
    for most in (int(limit / MARGIN), limit):
        cache, division = place_images(settings, model, images, most, cache_bytes)
        if division is not None:
            return Fit(model, division, cache, cache_bytes, limit, reason, model.fixed(settings) + cache.held)
    raise _too_small(settings, model, model.fixed(settings) + cache.held, limit)


def place_images(
    settings: Settings, model: CostModel, images: int, limit: int, cache_bytes: int
) -> tuple[ImageCache, MicroBatchPlan | None]:
    """Choose where decoded images are cached and how the batch is divided in what that leaves of `limit` bytes.

    They are cached in GPU memory where they have one size, fit an eighth of the budget and cost no recomputation.
    """
    on_gpu, policy = model.device.type == "cuda", settings.data.cache
    whole, room = int(images * model.sample.image_bytes), limit - model.fixed(settings)
    ram = min(whole, 0 if policy == "none" else cache_bytes)
    given, size = "" if policy == "auto" else "given; ", format_bytes(whole)
    if policy == "ram" or whole <= ram:
        cache = ImageCache(IN_RAM, f"{given}{size} decoded", 0 if on_gpu else ram, 0 if on_gpu else whole - ram)
    else:
        part = f", {format_bytes(ram)} of it in RAM" if ram else " every epoch"
        cache = ImageCache(NOWHERE, f"{given}{size} decoded{part}", 0 if on_gpu else ram)
    division = model.divide(settings, room - cache.held)
    if not on_gpu or policy != "auto":
        return cache, division
    if len({image.shape for image in model.sample.images}) > 1:
        why = "their sizes differ"
    elif whole > limit // GPU_CACHE_PART:
        why = f"an eighth of the GPU's budget is {format_bytes(limit // GPU_CACHE_PART)}"
    else:
        why = "in GPU memory they would leave too little for the batch"
        smaller = model.divide(settings, room - whole)
        if division is not None and smaller is not None and smaller.recomputed <= division.recomputed:
            return ImageCache(IN_GPU_MEMORY, f"{size} decoded, within an eighth of its budget", whole), smaller
    return replace(cache, reason=f"{cache.reason}; {why}"), division


def _measure(settings: Settings, objective: Objective, arithmetic: Arithmetic, source: Source | None) -> CostModel:
    """Measure the parts of a step, in the memory that is free."""
    sizes, device = local_groups(settings, objective), next(objective.parameters()).device
    pipeline = Pipeline(settings.views, settings.data.size, settings.run.seed)
    sample = read_sample(source, settings.data.size, settings.data.channels)
    cost, room = None, memory.free(settings.hardware.memory, device)
    try:
        max_rows = min(settings.hardware.micro_batch or max(saturating_rows(device.type), max(sizes)), sum(sizes))
        cost = measure_step(objective, pipeline, sample, settings.run.batch, arithmetic, max_rows=max_rows, room=room)
    except Exception:
        if ":" not in settings.method.name:
            raise
        objective.train().zero_grad(set_to_none=True)
    return CostModel(objective, settings.data.size, arithmetic.precision, sample, cost, memory.resident())


def _too_small(settings: Settings, model: CostModel, fixed: int, limit: int) -> ResourceError:
    """Return the error where nothing fits: how much memory would do, and which settings need less."""
    mode, sizes = settings.hardware.mode, local_groups(settings, model.objective)
    rows = settings.hardware.micro_batch or max(sizes)
    ways = {"auto": (False, True), "checkpointed": (True,)}.get(mode, (False,))
    estimates = [model.activations(checkpointing) for checkpointing in ways]
    needed = min(each.at(rows, sum(sizes) - rows if mode == "direct" else 0) for each in estimates)
    total = -(-(fixed + needed) // 10**8) / 10
    fitting = max(int((limit - fixed - estimates[-1].fixed) // estimates[-1].peak), 0)
    smaller = f"--set model.bn_group={2 ** (fitting.bit_length() - 1)}" if fitting >= 2 else "a smaller --batch"
    what = "the whole batch in mode direct" if mode == "direct" else f"one BatchNorm group of {max(sizes)} rows"
    if mode not in ("auto", "checkpointed"):
        smaller += ", or --set hardware.mode=auto"
    return ResourceError(
        f"The views of a batch and {what} need {total:.1f} GB, the budget is {format_bytes(limit)}.",
        f"Pass --memory {total:.1f}GB, --recipe shapes, a smaller --backbone or --image-size, or {smaller}.",
    )
