"""The learning rate and the size of views as functions of the step."""

import math

from ssl_cli.config.tree import OptimSettings, ScheduleSettings


def peak_rate(optim: OptimSettings, batch: int) -> float:
    """Compute the rate at the end of warm-up: `lr` as given, or `base_lr` scaled by `lr_rule`.

    `linear`: base_lr * batch / 256; `sqrt`: base_lr * sqrt(batch) (SimCLR, appendix B.1); `none`: base_lr. By a rule it
    is at most `max_lr`: what Adam moves a weight by is bounded by the rate, whatever the batch.
    """
    if optim.lr is not None:
        return optim.lr
    factor = {"linear": batch / 256, "sqrt": math.sqrt(batch), "none": 1.0}[optim.lr_rule]
    return min(optim.base_lr * factor, optim.max_lr or math.inf)


def warmup_steps(schedule: ScheduleSettings, steps_per_epoch: int) -> int:
    """Return the number of steps in which the rate rises from 0."""
    return round(schedule.warmup * steps_per_epoch)


def rate(schedule: ScheduleSettings, peak: float, step: int, steps_per_epoch: int) -> float:
    """Compute the learning rate of `step` (from 0).

    Linear warm-up over `warmup` epochs, from 0 at the first step as in SimCLR's code (model_util.py:53-83), then cosine
    to 0 over the remaining epochs (SimCLR), drops at milestones, or constant. With `every = "epoch"` the rate after
    warm-up changes once an epoch (MoCo's code).
    """
    warmup = warmup_steps(schedule, steps_per_epoch)
    total = schedule.steps(steps_per_epoch)
    if step < warmup:
        return peak * step / warmup
    if schedule.every == "epoch":
        step = max(step // steps_per_epoch * steps_per_epoch, warmup)
    if schedule.kind == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
    if schedule.kind == "step":
        return float(peak * schedule.gamma ** sum(step >= epoch * steps_per_epoch for epoch in schedule.milestones))
    return peak


def view_size(resolution: tuple[float, float] | None, size: int, steps: int, step: int) -> int:
    """Return the side in pixels of the views of `step` (from 0) of `steps`; `size` is the last one.

    It rises from the first fraction of `size` to all of it, in eighths of `size` (at least 4 pixels), evenly until the
    second fraction of the schedule: progressive resizing, as in Touvron et al. 2019, arXiv 1906.06423.
    """
    if resolution is None:
        return size
    first, until = resolution
    unit = max(4, size // 8)
    fraction = first + (1 - first) * min(step / (until * steps), 1.0)
    return min(size, max(int(fraction * size / unit + 1e-9) * unit, 8))


def mean_area(resolution: tuple[float, float] | None, size: int, steps: int) -> float:
    """Return the mean area of the views of a schedule, as a fraction of that of the last ones."""
    if resolution is None:
        return 1.0
    part = max(1, steps // 1000)  # a thousand steps give it to a thousandth
    sides = [view_size(resolution, size, steps, step) for step in range(0, steps, part)]
    return sum(side**2 for side in sides) / (len(sides) * size**2)
