"""Build the user's run as pretraining builds it, with one batch of it: all that bench needs of the training loop."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli.bench.machine import Machine
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import require_batch
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.devices import own_device
from ssl_cli.engine.job import Job
from ssl_cli.engine.plan import budget, plan
from ssl_cli.objective import Batch, Targets

STEP_SECONDS, SMALLEST_BATCH = 2.0, 8
"""A step that would take longer is measured at a smaller batch, but not smaller than this."""


class Run:
    """A run and a batch of it, whose weights move as steps are measured.

    Raises:
        SslcliError: whatever would keep the run from starting.
    """

    def __init__(self, settings: Settings, deadline: float) -> None:
        self.source = open_pretraining(settings.data, settings.run.seed)
        settings, _ = plan.capped(settings, len(self.source))
        self.device = own_device(settings.hardware.device)
        require_batch(self.source.name, len(self.source), settings.run.batch)
        self.objective = build_objective(settings, self.device, len(self.source))
        data = plan.Data(len(self.source), self.source.name, self.source)
        planned = plan.make(settings, self.objective, data, Path.cwd())
        self.asked, self.resolved = settings.run.batch, planned.resolved
        most = max(STEP_SECONDS * planned.expected.get("rate", math.inf), SMALLEST_BATCH)
        if self.asked > most:  # in the same micro-batches
            run = settings.run.model_copy(update={"batch": 2 ** int(math.log2(most))})
            settings = settings.model_copy(update={"run": run})
        loader = build_loader(settings, self.objective, self.source, self.device, self.resolved.card_bytes)
        self.settings, self.machine = settings, Machine(self.device, deadline)
        self.cache_bytes = budget.cache_bytes(settings, self.objective, self.device)
        self.job = Job(settings, self.resolved, self.objective, loader, None)
        self.batch = next(loader.batches(0, 1)).to(torch.device("cpu"))
        self.views = self.augment(self.batch)
        self.few = min(len(self.batch), 256 if settings.data.size <= 64 else 64)

    def augment(self, batch: Batch) -> Any:
        """Return the views of a batch, on the device; their `x` is `(V*N,C,S,S)`, view by view."""
        return self.job.staging.stage(batch)[0]

    def gradient(self) -> tuple[Targets, Tensor, Tensor]:
        """Compute targets, loss, z and the gradient of the first batch as a training step does."""
        self.job.moments.clear()
        self.objective.zero_grad(set_to_none=True)
        targets = self.job.targets(self.views, self.batch)
        return targets, *self.job.backward(self.views, targets, self.batch)

    def step(self) -> None:
        """Run a training step from views that exist: gradient, optimiser, state of the method."""
        targets, loss, z = self.gradient()
        if self.job.update(loss, 0):
            self.objective.after_step(z, targets, self.batch, 0.0)

    @property
    def recomputed(self) -> float:
        """Return the share of the rows whose forward pass is recomputed for the gradient."""
        count = math.ceil(len(self.batch) * self.objective.gradient_views / self.resolved.micro_batch)
        return max(count - self.resolved.kept, 0) / count if not self.resolved.checkpointing else 1.0

    def facts(self) -> dict[str, Any]:
        """Describe the run, for the report."""
        settings, name = self.settings, torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        same = ("device", "precision", "memory_format", "mode", "micro_batch")
        return {
            "method": settings.method.name, "backbone": settings.model.title, "data": self.source.name,
            "batch": settings.run.batch, "asked_batch": self.asked, "size": settings.data.size, "device_name": name,
            "threads": torch.get_num_threads(), "torch": str(torch.__version__),
            **{field: getattr(self.resolved, field) for field in same},
        }  # fmt: skip
