"""What a run needs, measured: the memory and time of its parts, from which any division of its batch can be judged."""

from dataclasses import dataclass
from functools import cached_property

import torch

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.data.source import Source
from ssl_cli.engine.plan import budget, forecast, probe
from ssl_cli.engine.plan.divide import Division, Mode, at_once, divide
from ssl_cli.engine.plan.footprint import Footprint, footprint
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.objective import Objective


@dataclass(frozen=True)
class Need:
    """Of a run with this objective, however its batch is divided.

    Attributes:
        objective: what is trained.
        size: pixels of a view's side.
        precision: in which rows pass.
        sample: some images.
        pace: the time of a step's parts; None where a user's own method does what cannot be timed.
    """

    objective: Objective
    size: int
    precision: str
    sample: forecast.Sample
    pace: forecast.Pace | None

    def weigh(self, checkpointing: bool) -> Footprint:
        """What a row holds in a pass."""
        return self._sparing if checkpointing else self._plain

    @cached_property
    def _counted(self) -> Footprint:
        return footprint(self.objective, self.size, self.precision)

    @cached_property
    def _plain(self) -> Footprint:
        return self._calibrated(self._counted)

    @cached_property
    def _sparing(self) -> Footprint:
        return self._calibrated(footprint(self.objective, self.size, self.precision, checkpointing=True))

    def _calibrated(self, counted: Footprint) -> Footprint:
        measured = self.pace.passes if self.pace else None
        return probe.calibrated(counted, self._counted, measured, budget.trained_bytes(self.objective))

    @property
    def device(self) -> torch.device:
        """Where the run is."""
        return next(self.objective.parameters()).device

    def beside(self, settings: Settings) -> int:
        """Bytes beside activations and cached images."""
        loss = self.pace.loss_bytes if self.pace else 0
        return loss + budget.held(settings, self.objective, self.device, self.precision, self.sample.size)

    def divide(self, settings: Settings, room: int, mode: Mode | None = None) -> Division | None:
        """The division of the batch for `room` bytes, in the mode of the settings unless another is given.

        Raises:
            UsageError: the micro-batch asked for would cut a group.
        """
        sizes, asked = budget.step_groups(settings, self.objective), settings.hardware.micro_batch
        if asked is not None and asked < max(sizes):
            raise UsageError(
                f"--micro-batch {asked} is smaller than a BatchNorm group of {max(sizes)} rows.",
                f"Pass at least {max(sizes)}, or change who shares statistics with --set model.bn_group={asked}.",
            )
        mode = mode or settings.hardware.mode
        return divide(sizes, self.weigh, room, mode=mode, asked=asked, device=self.device.type)

    def cost(self, division: Division) -> float | None:
        """Time of a row's passes in this division, as a multiple of what direct training takes."""
        if self.pace is None:
            return None
        passes = self.pace.passes
        return 1 + division.extra * passes.forward / passes.both

    def seconds(self, settings: Settings, division: Division, *, images: int, in_memory: bool) -> float | None:
        """How long the run will take."""
        if self.pace is None:
            return None
        image = self.pace.image(self.objective, division.extra)
        steps = images // settings.run.batch * settings.schedule.epochs
        device = self.device.type
        return forecast.run_seconds(
            self.pace, image, settings, images=images, steps=steps, in_memory=in_memory, device=device
        )

    def largest_batches(self, settings: Settings, most: int) -> dict[Mode, int]:
        """The largest batch that fits `most` bytes, by mode; 0: none does."""
        modes: tuple[Mode, ...] = ("direct", "checkpointed", "cached")
        return {mode: self._largest(settings, most, mode) for mode in modes}

    def _largest(self, settings: Settings, most: int, mode: Mode) -> int:
        """Of one mode, to a sixteenth of itself."""

        def fits(batch: int) -> bool:
            run = settings.run.model_copy(update={"batch": batch})
            chosen = settings.model_copy(update={"run": run})
            found = self.divide(chosen, most - self.beside(chosen), mode)
            return found is not None and (mode == "cached" or found.kept == found.count)

        batch = 1
        while batch < LARGEST and fits(2 * batch):
            batch *= 2
        for part in (batch // 2, batch // 4, batch // 8, batch // 16):
            batch += part if part and fits(batch + part) else 0
        return batch if fits(batch) else 0


LARGEST = 1 << 24


def measure(settings: Settings, objective: Objective, how: probe.Arithmetic, few: Source | None) -> Need:
    """Time the parts of a step for a moment, on a few images; the objective is left as it was."""
    sample = forecast.sample(few, settings.data.size, settings.data.channels)
    sizes, device = budget.step_groups(settings, objective), next(objective.parameters()).device
    rows = settings.hardware.micro_batch or max(at_once(device.type), max(sizes))
    pace = None
    try:
        pace = forecast.pace(settings, objective, sample, how, min(rows, sum(sizes)))
    except Exception:
        if ":" not in settings.method.name:
            raise
        objective.train().zero_grad(set_to_none=True)
    return Need(objective, settings.data.size, how.precision, sample, pace)


def too_little(settings: Settings, found: Need, beside: int, most: int) -> ResourceError:
    """What to say where nothing fits: how much would do, and which settings need less."""
    mode, sizes = settings.hardware.mode, budget.step_groups(settings, found.objective)
    smallest = settings.hardware.micro_batch or max(sizes)
    ways = {"auto": (False, True), "checkpointed": (True,)}.get(mode, (False,))
    weights = [found.weigh(way) for way in ways]
    need = min(weight.of(smallest, sum(sizes) - smallest if mode == "direct" else 0) for weight in weights)
    least = -(-(beside + need) // 10**8) / 10
    fits = max(int((most - beside - weights[-1].fixed) // weights[-1].peak), 0)
    smaller = f"--set model.bn_group={2 ** (fits.bit_length() - 1)}" if fits >= 2 else "a smaller --batch"
    what = "the whole batch in mode direct" if mode == "direct" else f"one BatchNorm group of {max(sizes)} rows"
    if mode not in ("auto", "checkpointed"):
        smaller += ", or --set hardware.mode=auto"
    return ResourceError(
        f"The views of a batch and {what} need {least:.1f} GB, the budget is {format_bytes(most)}.",
        f"Pass --memory {least:.1f}GB, --recipe shapes, a smaller --backbone or --image-size, or {smaller}.",
    )
