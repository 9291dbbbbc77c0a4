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
from ssl_cli.engine.build import build_loader, build_objective, local_device
from ssl_cli.engine.plan.plan import make_plan
from ssl_cli.engine.plan.size import size
from ssl_cli.engine.train import Trainer
from ssl_cli.objective import Batch, Targets
from ssl_cli.planning.queue import cap_queue

STEP_SECONDS, SMALLEST_BATCH = 2.0, 8  # a step that would take longer is measured at a smaller batch


class Run:
    """A run and a batch of it, whose weights move as steps are measured."""

    def __init__(self, settings: Settings, deadline: float) -> None:
        self.source = open_pretraining(settings.data, settings.run.seed)
        self.device, images = local_device(settings.hardware.device), len(self.source)
        settings, _ = cap_queue(size(settings, images, self.source, self.device).settings, images)
        require_batch(self.source.name, images, settings.run.batch)
        self.objective = build_objective(settings, self.device, images, source=self.source)
        planned = make_plan(settings, self.objective, images, self.source.name, self.source, Path.cwd())
        settings, self.asked, self.resolved = planned.settings, settings.run.batch, planned.resolved
        most = max(STEP_SECONDS * planned.expected.get("rate", math.inf), SMALLEST_BATCH)
        batch = self.asked if self.asked <= most else 2 ** int(math.log2(most))
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"batch": batch})})
        ram, gpu = planned.cache_bytes, self.resolved.gpu_cache_bytes
        loader = build_loader(settings, self.objective, self.source, self.device, cache_bytes=ram, gpu_cache_bytes=gpu)
        self.settings, self.machine = settings, Machine(self.device, deadline)
        self.cache_bytes = {"ram": math.inf, "none": 0.0}.get(settings.data.cache, ram)
        self.trainer = Trainer(settings, self.resolved, self.objective, loader)
        self.batch = next(loader.batches(0, 1)).to(torch.device("cpu"))
        self.views = self.augment(self.batch)
        images = max(self.resolved.micro_batch // self.objective.gradient_views, 2)
        self.few = min(len(self.batch), images, 256 if settings.data.size <= 64 else 64)

    def augment(self, batch: Batch) -> Any:
        """Return the views of a batch, on the device; their `x` is `(V*N,C,S,S)`, view by view."""
        return self.trainer.views.augment(batch)

    def gradient(self) -> tuple[Targets, Tensor, Tensor]:
        """Compute targets, loss, z and the gradient of the first batch as a training step does."""
        self.trainer.discard_gradient()
        targets = self.trainer.targets(self.views, self.batch)
        return targets, *self.trainer.gradient(self.views, targets, self.batch)

    def step(self) -> None:
        """Run a training step from views that exist: gradient, optimiser, state of the method."""
        targets, _, z = self.gradient()
        self.trainer.update(0)
        self.objective.after_step(z, targets, self.batch, 0.0)

    def facts(self) -> dict[str, Any]:
        """Describe the run, for the report."""
        settings, chosen = self.settings, ("device", "precision", "memory_format", "mode", "micro_batch")
        return {name: getattr(self.resolved, name) for name in chosen} | {
            "method": settings.method.name, "backbone": settings.model.title, "data": self.source.name,
            "batch": settings.run.batch, "asked_batch": self.asked, "size": settings.data.size,
            "device_name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "",
            "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        }  # fmt: skip
