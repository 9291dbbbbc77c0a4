"""Estimate what a run needs, and choose micro-batches and image cache that fit the budget."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from ssl_cli import memory
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.data.disk_cache import folder_of
from ssl_cli.data.image_store import bytes_in, room_in
from ssl_cli.data.sample import Sample, read_sample
from ssl_cli.data.source import Source
from ssl_cli.engine.plan import budget
from ssl_cli.engine.plan.measure import Arithmetic, StepCost, measure_step
from ssl_cli.engine.rows import local_group_sizes
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.names import shown
from ssl_cli.nn.activations import ActivationBytes, calibrate, count_activations
from ssl_cli.nn.group_sizes import group_sizes
from ssl_cli.objective import Objective, device_of
from ssl_cli.optim.schedule import view_size
from ssl_cli.planning.divide import MicroBatchPlan, Mode, divide, saturating_rows
from ssl_cli.planning.timing import Timing, relative_costs
from ssl_cli.world import world

MARGIN = 1.05
"""Graphs and images are kept in a budget smaller by this factor: estimates may be too low by as much."""
GPU_CACHE_PART = 8
"""Images may take one part in so many of a GPU's budget."""
LARGEST_BATCH = 1 << 24
EVALUATED, END_PART = 12_000, 0.07
"""Images that the evaluation at the end encodes at most, and its part of the time at most (`evaluation/quality`)."""
IN_GPU_MEMORY, IN_RAM, ON_DISK, IN_PART, NOWHERE = "in GPU memory", "in RAM", "on disk", "in part on disk", "none"


def local_groups(settings: Settings, objective: Objective) -> tuple[int, ...]:
    """Return the rows of each BatchNorm group of a step's gradient views that one rank runs."""
    sizes = group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group)
    return local_group_sizes(sizes, settings.run.batch, world().size)


@dataclass(frozen=True)
class CostModel:
    """Estimate the bytes and seconds of a run for any micro-batches.

    Attributes:
        settings: of the run.
        objective: what is trained.
        precision: of the views.
        sample: a few images.
        cost: of a step; None where a user's method could not be measured.
        activations: memory estimate without (False) or with activation checkpointing.
        process: bytes that this process holds.
    """

    settings: Settings
    objective: Objective
    precision: str
    sample: Sample
    cost: StepCost | None
    activations: Callable[[bool], ActivationBytes]
    process: int

    @property
    def device(self) -> torch.device:
        """Return the device of the run."""
        return device_of(self.objective)

    @property
    def fixed(self) -> int:
        """Return the bytes without activations and cached images."""
        image, loss = self.sample.image_bytes, self.cost.loss_bytes if self.cost else 0
        return loss + budget.fixed_bytes(self.settings, self.objective, self.precision, image, self.process)

    def divide(self, available: int, mode: Mode | None = None) -> MicroBatchPlan | None:
        """Plan micro-batches whose activations fit in `available` bytes; None for `mode`: that of the settings."""
        sizes, hardware = local_groups(self.settings, self.objective), self.settings.hardware
        mode, rows = mode or hardware.mode, hardware.micro_batch
        return divide(sizes, self.activations, available, mode=mode, micro_batch=rows, device=self.device.type)

    def timing(self, limit: float, images: int, recomputed: float, *, decoded_once: bool) -> Timing | None:
        """Estimate the seconds of a step and of the end, an evaluation with this network and an untrained one.

        Args:
            limit: seconds of the run, of which the evaluation takes a part at most.
            images: their number.
            recomputed: forward passes that the micro-batch plan runs again, per row.
            decoded_once: whether images are cached, so that only the first epoch decodes them.

        Returns:
            None where the costs of this machine are not known.
        """
        if self.cost is None:
            return None
        run, threads = self.settings.run, self.settings.data.threads or torch.get_num_threads()
        batch, encoded = run.batch / world().size, 2 * min(images, EVALUATED) * run.evaluate
        # a GPU computes while the CPU decodes; on a CPU one takes time from the other
        both = max if self.device.type == "cuda" else lambda *parts: sum(parts)
        decoding, reads = self.cost.read / threads, self.settings.data.reads
        by_side, mean = relative_costs(self.settings.schedule.resolution, self.settings.data.size, self.cost.smallest)
        reading, whole = reads * decoding, batch * self.cost.image(self.objective, recomputed)
        computing = mean * whole
        first, later = (
            both(read * batch, computing + self.cost.loss) for read in (reading, reading * (not decoded_once))
        )
        end = min(encoded * both(decoding, self.cost.forward), END_PART * max(limit, 0.0))
        grown = {side: (cost - mean) * whole for side, cost in by_side.items()}
        return Timing(limit, max(first, 1e-9), max(later, 1e-9), end, grown)

    def largest_batch(self, limit: int, mode: Mode) -> int:
        """Estimate the largest batch that fits `limit` bytes in this mode, to a sixteenth; 0 where none does."""

        def fits(batch: int) -> bool:
            run = self.settings.run.model_copy(update={"batch": batch})
            model = replace(self, settings=self.settings.model_copy(update={"run": run}))
            found = model.divide(limit - model.fixed, mode)
            return found is not None and (mode == "cached" or found.kept_graphs == found.count)

        batch = 1
        while batch < LARGEST_BATCH and fits(2 * batch):
            batch *= 2
        for part in (batch // 2, batch // 4, batch // 8, batch // 16):
            batch += part if part and fits(batch + part) else 0
        return batch if fits(batch) else 0


@dataclass(frozen=True)
class ImageCache:
    """Where decoded images are cached and why, bytes `held` of the run's budget, and bytes of RAM `beyond` it."""

    place: str
    reason: str
    held: int
    beyond: int = 0


@dataclass(frozen=True)
class Fit:
    """Micro-batches and image cache that fit the `budget`, which is what it is for a `reason`.

    `cache_bytes` is the RAM for decoded images.
    """

    model: CostModel
    micro_batches: MicroBatchPlan
    cache: ImageCache
    cache_bytes: int
    budget: int
    reason: str

    @property
    def peak(self) -> int:
        """Estimate the peak bytes of the run."""
        return self.model.fixed + self.cache.held + self.micro_batches.peak + self.cache.beyond

    @property
    def resolved(self) -> dict[str, Any]:
        """Return the fields of `Resolved` that are chosen here."""
        names = ("mode", "micro_batch", "kept_graphs", "checkpointing")
        on_gpu = self.cache.held if self.cache.place == IN_GPU_MEMORY else 0
        return {name: getattr(self.micro_batches, name) for name in names} | {"gpu_cache_bytes": on_gpu}


def fit(settings: Settings, objective: Objective, arithmetic: Arithmetic, images: int, source: Source | None) -> Fit:
    """Measure a step, read the free memory, and choose micro-batches and image cache of a run over `images`.

    Raises:
        ResourceError: not even the smallest micro-batch fits.
        UsageError: the micro-batch asked for would split a BatchNorm group.
    """
    largest, asked = max(local_groups(settings, objective)), settings.hardware.micro_batch
    if asked is not None and asked < largest:
        raise UsageError(
            f"--micro-batch {asked} is smaller than a BatchNorm group of {largest} rows.",
            f"Pass at least {largest}, or change who shares statistics with --set model.bn_group={asked}.",
        )
    model = _measure(settings, objective, arithmetic, source)
    limit, reason = budget.budget(settings.hardware.memory, model.device, model.process)
    ram = budget.cache_bytes(settings, objective, limit, model.process)
    for most in (int(limit / MARGIN), limit):
        cached, micro_batches = place_images(model, images, most, ram)
        if micro_batches is not None:
            return Fit(model, micro_batches, cached, ram, limit, reason)
    raise _too_small(model, model.fixed + cached.held, limit, reason)


def place_images(model: CostModel, images: int, limit: int, ram: int) -> tuple[ImageCache, MicroBatchPlan | None]:
    """Choose where decoded images are cached and how the batch is divided in what that leaves of `limit` bytes.

    They are cached in GPU memory where they have one size, fit an eighth of the budget and cost no recomputation;
    else in `ram` bytes.
    """
    on_gpu, policy = model.device.type == "cuda", model.settings.data.cache
    whole, available = int(images * model.sample.image_bytes), limit - model.fixed
    if policy == "disk" and not model.sample.in_memory:
        return _on_disk(model, whole), model.divide(available)
    policy = "auto" if policy == "disk" else policy
    ram = min(whole, 0 if policy == "none" else ram)
    place, words = IN_RAM, f"{'' if policy == 'auto' else 'given; '}{format_bytes(whole)} decoded"
    if policy != "ram" and whole > ram:
        place, words = NOWHERE, words + (f", {format_bytes(ram)} of it in RAM" if ram else " every epoch")
    beyond = whole - ram if place == IN_RAM and not on_gpu else 0
    cached = ImageCache(place, words, 0 if on_gpu else ram, beyond)
    micro_batches = model.divide(available - cached.held)
    if not on_gpu or policy != "auto":
        return cached, micro_batches
    if len({image.shape for image in model.sample.images}) > 1:
        why = "their sizes differ"
    elif whole > limit // GPU_CACHE_PART:
        why = f"an eighth of the GPU's budget is {format_bytes(limit // GPU_CACHE_PART)}"
    else:
        why = "in GPU memory they would leave too little for the batch"
        smaller = model.divide(available - whole)
        if micro_batches is not None and smaller is not None and smaller.recomputed <= micro_batches.recomputed:
            words = f"{format_bytes(whole)} decoded, within an eighth of its budget"
            return ImageCache(IN_GPU_MEMORY, words, whole), smaller
    return replace(cached, reason=f"{words}; {why}"), micro_batches


def _on_disk(model: CostModel, whole: int) -> ImageCache:
    """Describe the cache on disk, which may take what is free there and what other caches of images take."""
    folder = folder_of(model.settings.data.cache_folder)
    most = room_in(folder) + bytes_in(folder)
    words = f"{format_bytes(whole)} decoded, in {shown(str(folder))}"
    if whole <= most:
        return ImageCache(ON_DISK, words, 0)
    return ImageCache(IN_PART, f"{words}; {format_bytes(most)} of the disk may be taken, so the rest is decoded", 0)


def _measure(settings: Settings, objective: Objective, arithmetic: Arithmetic, source: Source | None) -> CostModel:
    sizes, device, data = local_groups(settings, objective), device_of(objective), settings.data
    sides = data.size, view_size(settings.schedule.resolution, data.size, 1, 0)
    pipeline, small = (Pipeline(settings.views, side, settings.run.seed) for side in sides)
    sample, cost = read_sample(source, data.size, data.channels), None
    rows = min(settings.hardware.micro_batch or max(saturating_rows(device.type), max(sizes)), sum(sizes))
    available = budget.free(settings.hardware.memory, device)
    try:
        cost = measure_step(
            objective, pipeline, sample, settings.run.batch, arithmetic, max_rows=rows, available=available,
            smallest=small,
        )  # fmt: skip
    except Exception:
        if ":" not in settings.method.name:
            raise
        objective.train().zero_grad(set_to_none=True)

    @cache
    def count(checkpointing: bool) -> ActivationBytes:
        return count_activations(objective, data.size, arithmetic.precision, checkpointing=checkpointing)

    @cache
    def activations(checkpointing: bool) -> ActivationBytes:
        peaks = cost.peaks if cost else {}
        return calibrate(count(checkpointing), count(False), peaks, budget.trained_bytes(objective))

    return CostModel(settings, objective, arithmetic.precision, sample, cost, activations, memory.resident())


def _too_small(model: CostModel, fixed: int, limit: int, reason: str) -> ResourceError:
    """Return the error where nothing fits: how much memory would do, and which settings need less."""
    hardware, sizes = model.settings.hardware, local_groups(model.settings, model.objective)
    mode, rows = hardware.mode, hardware.micro_batch or max(sizes)
    estimates = [model.activations(way) for way in {"auto": (False, True), "checkpointed": (True,)}.get(mode, (False,))]
    needed = min(each.at(rows, sum(sizes) - rows if mode == "direct" else 0) for each in estimates)
    total = -(-(fixed + needed) // 10**8) / 10
    fitting = max(int((limit - fixed - estimates[-1].fixed) // estimates[-1].peak), 0)
    smaller = f"--set model.bn_group={2 ** (fitting.bit_length() - 1)}" if fitting >= 2 else "a smaller --batch"
    what = "the whole batch in mode direct" if mode == "direct" else f"one BatchNorm group of {max(sizes)} rows"
    if mode not in ("auto", "checkpointed"):
        smaller += ", or --set hardware.mode=auto"
    more = "Raise the limit (container, job, ulimit)" if "limits" in reason else f"Pass --memory {total:.1f}GB"
    return ResourceError(
        f"The views of a batch and {what} need {total:.1f} GB, the budget is {format_bytes(limit)} ({reason}).",
        f"{more}, --recipe own, a smaller --backbone or --image-size, or {smaller}.",
    )
