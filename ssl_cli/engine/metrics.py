"""Metrics of training at log steps: throughput, the method's own metrics, the geometry of z, and its collapse."""

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader
from ssl_cli.data.split import files_of
from ssl_cli.data.waiting import WaitWatch
from ssl_cli.engine.evaluation.monitor import Monitor
from ssl_cli.errors import DivergedError
from ssl_cli.events import COLLAPSED, Event, Stepped, Warned
from ssl_cli.losses.geometry import ROWS, effective_rank, spread, uniformity
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch, Objective, Targets
from ssl_cli.planning.resolved import Resolved
from ssl_cli.world import default_threads

LOG_SECONDS = 5.0
"""Steps are logged at least this often, even between multiples of `run.log_every`."""
PATIENCE = 20
"""Steps for which `spread` must stay low to count as a collapse: an untrained network starts low for a few steps."""


@torch.no_grad()
def observe(objective: Objective, z: Tensor, targets: Targets, batch: Batch) -> dict[str, float]:
    """Return the objective's own metrics and `spread`, `uniformity` and `effective_rank` of z `(M,D)`."""
    numbers = _to_host(objective.observe(z, targets, batch), z.device)
    # a few hundred rows, on the CPU: not every device has eigenvalues or float64
    rows = unit(z[:ROWS]).cpu() if z.dim() == 2 and not objective.classes else z[:0].cpu()
    if len(rows) > 1 and bool(torch.isfinite(rows).all()):
        geometry = {"spread": spread, "uniformity": uniformity, "effective_rank": effective_rank}
        numbers |= {name: float(measure(rows)) for name, measure in geometry.items()}
    return numbers


def _to_host(numbers: Mapping[str, float | Tensor], device: torch.device) -> dict[str, float]:
    """Return the numbers as floats, by a single transfer."""
    if not numbers:
        return {}
    stacked = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in numbers.values()])
    return dict(zip(numbers, stacked.tolist(), strict=True))


class CollapseWatch:
    """Detect a collapsed representation: `spread` below 0.1 for 20 steps; reported once."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._reported = False

    def collapsed(self, step: int, numbers: Mapping[str, float]) -> bool:
        """Return whether a collapse is detected at `step`, for the first time."""
        if numbers.get("spread", 1.0) >= COLLAPSED:
            self._since = None
            return False
        if self._since is None:
            self._since = step
        if self._reported or step - self._since < PATIENCE:
            return False
        self._reported = True
        return True


class Metrics:
    """Measure throughput, waiting time and the objective's metrics from one log step to the next.

    Args:
        settings: settings of the run.
        loader: its seconds of waiting for images are reported as a fraction of the time.
        objective: the objective in training, which the kNN monitor evaluates.
        resolved: resolved choices of the run.
        steps: total number of steps.
    """

    def __init__(
        self, settings: Settings, loader: Loader, objective: Objective, resolved: Resolved, steps: int
    ) -> None:
        self.settings, self.loader, self.objective, self.steps = settings, loader, objective, steps
        self.device = torch.device(resolved.device)
        self._monitor = Monitor(loader.source, settings, resolved.precision, self.device, resolved.micro_batch)
        self._collapse = CollapseWatch()
        self._since, self._step, self._is_full = time.monotonic(), 0, False
        times, threads = getattr(files_of(loader.source, 0)[0], "times", None), loader.threads or default_threads()
        self._spent = 0.0, 0.0
        self._waits = WaitWatch(times, settings.data.cache, threads, caches=loader.caches)

    def start(self, step: int) -> None:
        """Measure time from here, after `step` steps."""
        self._since, self._step = time.monotonic(), step

    def due(self, step: int) -> bool:
        """Return whether metrics are logged after `step` steps."""
        quiet = time.monotonic() - self._since
        return step % self.settings.run.log_every == 0 or step == self.steps or quiet >= LOG_SECONDS

    def report(
        self, step: int, *, epoch: float, done: float, loss: float, lr: float, grad_norm: float,
        numbers: Mapping[str, float],
    ) -> Iterator[Event]:  # fmt: skip
        """Yield `Stepped`, a warning of a collapse, and the kNN monitor's result where one is due.

        Raises:
            DivergedError: the representation collapsed and `run.stop_on_collapse` is set.
        """
        seconds, steps = max(time.monotonic() - self._since, 1e-9), max(step - self._step, 1)
        now, batch = (self.loader.wait_seconds, self.loader.view_seconds), self.settings.run.batch
        wait, views = (min((after - before) / seconds, 1.0) for after, before in zip(now, self._spent, strict=True))
        self._spent, waits = now, self._waits.shares(wait, views)
        yield Stepped(
            step=step,
            epoch=epoch,
            loss=loss,
            chance=self.objective.chance(batch),
            lr=lr,
            rate=steps * batch / seconds,
            step_seconds=seconds / steps,
            data_wait=wait,
            memory=memory.in_use(self.device),
            grad_norm=grad_norm,
            numbers=numbers,
            waits=waits,
            done=done,
        )
        yield from filter(None, [self._waits.warning(step, epoch, waits)])
        if self._collapse.collapsed(step, numbers):
            message = "The representation has collapsed: the embeddings of all images are nearly equal."
            hint = "Try a lower --lr, a longer --set schedule.warmup, or look at the views with sslcli inspect-augs."
            if self.settings.run.stop_on_collapse:
                raise DivergedError(message, hint)
            yield Warned(step=step, message=message, hint=hint, about="collapse")
        if (full := getattr(self.loader.source, "full", "")) and not self._is_full:
            self._is_full = True
            hint = "Free some of it, or choose another --set data.cache_folder."
            yield Warned(step=step, message=f"{full}. The other images are decoded every epoch.", hint=hint)
        yield from self._monitor.measure(self.objective, step)
        self.start(step)  # the time of the measurements above is not step time
