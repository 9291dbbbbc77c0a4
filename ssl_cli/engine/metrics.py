"""What a run tells of itself at log steps: its pace, its numbers, the health of its representation."""

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader
from ssl_cli.engine.evaluation.monitor import Monitor
from ssl_cli.engine.health import CollapseWatch, health
from ssl_cli.engine.plan import memory
from ssl_cli.engine.plan.plan import Resolved
from ssl_cli.errors import DivergedError
from ssl_cli.events import Event, Stepped, Warned
from ssl_cli.objective import Batch, Objective, Targets

QUIET_SECONDS = 5.0
"""Where steps are slow, each one is told."""


class Meter:
    """Measures from one log step to the next.

    Args:
        settings: of the run.
        loader: whose waiting counts.
        objective: what is trained.
        resolved: how it runs.
        steps: the last step.
    """

    def __init__(
        self, settings: Settings, loader: Loader, objective: Objective, resolved: Resolved, steps: int
    ) -> None:
        self.settings, self.loader, self.objective, self.steps = settings, loader, objective, steps
        self.device = torch.device(resolved.device)
        self._monitor = Monitor(loader.source, settings, resolved.precision, self.device, resolved.micro_batch)
        self._watch = CollapseWatch()
        self._lap, self._wait = time.monotonic(), 0.0
        self._step = 0

    def begin(self, step: int) -> None:
        """Measure from here on."""
        self._lap, self._step = time.monotonic(), step

    def observe(self, step: int, z: Tensor, targets: Targets, batch: Batch) -> dict[str, float] | None:
        """The numbers of z after `step` steps, before any state moves; None where nothing is due."""
        quiet = time.monotonic() - self._lap
        if step % self.settings.run.log_every and step != self.steps and quiet < QUIET_SECONDS:
            return None
        return health(self.objective, z, targets, batch)

    def report(
        self, step: int, epoch: float, loss: float, lr: float, grad_norm: float, numbers: Mapping[str, float]
    ) -> Iterator[Event]:
        """`Stepped`, and what follows from it.

        Raises:
            DivergedError: the representation collapsed, and the settings say to stop then.
        """
        now = time.monotonic()
        seconds, steps = max(now - self._lap, 1e-9), max(step - self._step, 1)
        wait, self._wait = self.loader.wait_seconds - self._wait, self.loader.wait_seconds
        batch = self.settings.run.batch
        rate = steps * batch / seconds
        yield Stepped(
            step=step,
            epoch=epoch,
            loss=loss,
            chance=self.objective.chance(batch),
            lr=lr,
            rate=rate,
            step_seconds=seconds / steps,
            data_wait=min(wait / seconds, 1.0),
            memory=memory.in_use(self.device),
            grad_norm=grad_norm,
            numbers=numbers,
        )
        if self._watch.sees(step, numbers):
            yield self._collapsed(step)
        yield from self._monitor.measure(self.objective, step)
        self.begin(step)  # what was measured here does not count as time of a step

    def _collapsed(self, step: int) -> Warned:
        message = "The representation has collapsed: all images lie close together on the sphere."
        hint = "Try a lower --lr, a longer --set schedule.warmup, or look at the views with sslcli inspect-augs."
        if self.settings.run.stop_on_collapse:
            raise DivergedError(message, hint)
        return Warned(step=step, message=message, hint=hint, about="collapse")
