"""What is measured: the user's run, assembled as pretraining assembles it, and one batch of it."""

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ssl_cli.bench.ceilings import Ceilings
from ssl_cli.config.tree import Settings
from ssl_cli.engine.job import Job
from ssl_cli.engine.plan.cost import local_groups
from ssl_cli.engine.pretrain import assemble
from ssl_cli.engine.rows import packed
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.engine.shards import Views
from ssl_cli.events import Event, Planned
from ssl_cli.objective import Batch, Targets
from ssl_cli.world import processors

STEP_SECONDS = 4.0
"""A step that would take longer is measured at a smaller batch."""
FEWEST = 8
T = TypeVar("T")


class Subject:
    """A run and a batch of it; what a part of the benchmark may need, made when it is first asked for.

    Args:
        job: the run, whose weights move as steps are measured.
        asked: images of a batch, as the user has it; the job's is smaller where its step would take too long.
        planned: what the plan expects of the run.

    Attributes:
        ceilings: of its device.
    """

    def __init__(self, job: Job, asked: int, planned: Planned) -> None:
        self.job, self.asked, self.planned = job, asked, planned
        self.settings, self.device, self.objective = job.settings, job.device, job.objective
        self.ceilings = Ceilings(job.device)

    @cached_property
    def batch(self) -> Batch:
        """The first batch, in memory wherever the run's images stay."""
        return next(self.job.loader.batches(0, 1)).to(torch.device("cpu"))

    @cached_property
    def views(self) -> Views:
        """Its views."""
        return self.job.staging.stage(self.batch)[0]

    @cached_property
    def outcome(self) -> tuple[Targets, Tensor, Tensor]:
        """Targets, loss and z of the batch."""
        return self.gradient()

    def gradient(self) -> tuple[Targets, Tensor, Tensor]:
        """Targets, loss and gradient of the batch, as a step has them; the weights stay."""
        found = drained(self.job.gradient(self.views, self.batch))
        self.objective.zero_grad(set_to_none=True)
        return found

    def step(self) -> None:
        """One step from views that are there: gradient, optimiser, the method's own state."""
        targets, loss, z = drained(self.job.gradient(self.views, self.batch))
        if self.job.update(loss, 0):
            self.objective.after_step(z, targets, self.batch, 0.0)

    @property
    def threads(self) -> int:
        """That read images."""
        return self.settings.data.threads or processors()

    @property
    def again(self) -> float:
        """Forward passes of a row beside the one that it takes in any case, on average."""
        resolved = self.job.resolved
        count = sum(1 for _ in packed(local_groups(self.settings, self.objective), resolved.micro_batch))
        return max(count - resolved.kept_graphs, 0) / count + resolved.checkpointing

    def facts(self) -> dict[str, Any]:
        """What was measured, for the report."""
        settings, resolved = self.settings, self.job.resolved
        return {
            "method": settings.method.name,
            "backbone": settings.model.title,
            "data": self.job.loader.source.name,
            "batch": settings.run.batch,
            "asked_batch": self.asked,
            "size": settings.data.size,
            "device": resolved.device,
            "device_name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "",
            "precision": resolved.precision,
            "memory_format": resolved.memory_format,
            "mode": resolved.mode,
            "micro_batch": resolved.micro_batch,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }


def drained(steps: Generator[Event, None, T]) -> T:
    """What a generator returns; its events are of no interest here."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@contextmanager
def assembled(settings: Settings) -> Iterator[Subject]:
    """The run of these settings, in a folder that goes away with the block.

    Raises:
        SslcliError: whatever would keep the run from starting.
    """
    with tempfile.TemporaryDirectory() as place:
        job, planned = _job(settings, Path(place) / "asked")
        fewer = _fewer(settings.run.batch, planned.expected.get("rate"))
        if fewer < settings.run.batch:
            resolved = job.resolved
            smaller = {
                "run": settings.run.model_copy(update={"batch": fewer}),
                "hardware": settings.hardware.model_copy(
                    update={"precision": resolved.precision, "memory_format": resolved.memory_format}
                    | ({"mode": resolved.mode} if resolved.mode in ("cached", "checkpointed") else {})
                ),
            }
            job, _ = _job(settings.model_copy(update=smaller), Path(place) / "smaller")
        yield Subject(job, settings.run.batch, planned)


def _job(settings: Settings, path: Path) -> tuple[Job, Planned]:
    folder = RunFolder(path)
    try:
        job, planned, _ = assemble(settings, folder, None)
    finally:
        folder.close()
    return job, planned


def _fewer(batch: int, rate: float | None) -> int:
    """The batch itself where a step of it is quick, else the largest power of two that is."""
    if rate is None or batch <= rate * STEP_SECONDS:
        return batch
    return min(batch, max(FEWEST, 1 << max(int(rate * STEP_SECONDS), 1).bit_length() - 1))
