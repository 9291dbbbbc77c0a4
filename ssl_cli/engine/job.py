"""A run assembled: what the loop drives, from settings or from a checkpoint."""

import dataclasses
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader
from ssl_cli.engine import checkpoint, plan
from ssl_cli.engine.backward import Rowwise, autocast, backward
from ssl_cli.engine.division import smaller
from ssl_cli.engine.groups import bn_groups, group_sizes
from ssl_cli.engine.meter import Meter
from ssl_cli.engine.probe import FORMATS
from ssl_cli.engine.run_folder import RunFolder
from ssl_cli.engine.signals import StopRequest
from ssl_cli.errors import STOPPED, CheckpointError, DivergedError, ResourceError, understood
from ssl_cli.events import Event, Saved, Stopped, Warned
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.objective import Batch, Objective, Targets
from ssl_cli.optim.build import build_optimiser, set_rate
from ssl_cli.optim.schedule import peak_rate, rate, warmup_steps

SAVE_SECONDS = 60.0
BAD_STEPS = 3
# Streams of random numbers, apart from each other and from the augmentation's.
QUERIES, TARGETS = 1, 2


class Job:
    """Everything a step needs; moves only in `update` and `after_step`."""

    def __init__(
        self,
        settings: Settings,
        resolved: plan.Resolved,
        objective: Objective,
        loader: Loader,
        folder: RunFolder,
    ) -> None:
        self.settings, self.resolved, self.folder = settings, resolved, folder
        self.request = StopRequest()
        self.device = torch.device(resolved.device)
        self.layout = FORMATS[resolved.memory_format]
        self.objective, self.loader = objective.train().to(memory_format=self.layout), loader
        self.steps_per_epoch = loader.steps_per_epoch
        self.steps = self.steps_per_epoch * settings.schedule.epochs
        self.peak = peak_rate(settings.optim, settings.run.batch)
        self.optimiser = build_optimiser(objective, settings.optim, self.peak)
        self.pipeline = Pipeline(settings.views, settings.data.size, settings.run.seed)
        self.autocast = autocast(self.device, resolved.precision)
        self.moments = Moments()
        self.start = 0
        self.bad_steps = 0
        self.grad_norm = torch.zeros(())
        self.meter = Meter(settings, loader, objective, resolved, self.steps)
        self.began = self.saved = time.monotonic()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: its tensors do not fit these settings.
        """
        try:
            self.objective.load_state_dict(state["objective"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit its own settings: {str(error).splitlines()[0]}"
            ) from error
        self.start = int(state["step"])

    def batches(self) -> Iterator[Batch]:
        """The batches from where the run stands to its end."""
        self.meter.begin(self.start)
        return self.loader.batches(self.start, self.steps)

    def augment(self, batch: Batch) -> Tensor:
        """The V views of each image, view by view, `(V * N,3,H,W)`."""
        # autocast would round them in any case, and they are most of what a large batch holds
        dtype = torch.bfloat16 if self.resolved.precision == "bf16" else torch.float32
        views = self.pipeline.stacked(batch.to(self.device), self.objective.views, dtype)
        return views.contiguous(memory_format=self.layout)

    def targets(self, x: Tensor, batch: Batch) -> Targets:
        """The objective's targets, in micro-batches of their own BatchNorm groups."""
        if not self.objective.has_targets:
            return None
        views = x.chunk(self.objective.views)
        rowwise = self._rowwise(
            lambda rows: self.objective.targets([view[rows] for view in views], batch.rows(rows)),
            1,
            batch.step,
            TARGETS,
        )
        return rowwise.without_gradient(self.moments)

    def backward(self, x: Tensor, targets: Targets, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and z of the whole batch; the gradient is in the parameters."""
        # rows of the first views stand first, and those beyond `gradient_views` are never asked for
        rowwise = self._rowwise(
            lambda rows: self.objective(x[rows]), self.objective.gradient_views, batch.step, QUERIES
        )
        loss = lambda z: self.objective.loss(z, targets, batch)  # noqa: E731
        return backward(rowwise, loss, self.moments, self.resolved.kept)

    def gradient(self, x: Tensor, batch: Batch) -> Generator[Event, None, tuple[Targets, Tensor, Tensor]]:
        """Targets, loss and z; where memory runs out, the batch is divided further and the step begins again.

        Nothing has moved by then, so nothing is lost; and it is said.
        """
        while True:
            try:
                targets = self.targets(x, batch)
                return targets, *self.backward(x, targets, batch)
            except Exception as error:
                if not isinstance(understood(error), ResourceError) or not self._divide_further():
                    raise
            self.moments.clear()
            self.optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            micro, sparing = self.resolved.micro_batch, self.resolved.checkpointing
            parts = ", keeping only what goes into the network's parts" if sparing else ""
            yield Warned(
                step=batch.step,
                message=f"Memory ran out in step {batch.step + 1}; it begins again with micro-batches of {micro:,} rows"
                f"{parts}. The batch is as it was.",
                hint="A smaller --memory makes the plan so from the start.",
            )

    def _divide_further(self) -> bool:
        resolved = self.resolved
        sizes = group_sizes(self.settings.run.batch, self.objective.gradient_views, self.settings.model.bn_group)
        less = smaller(sizes, resolved.micro_batch, resolved.kept, resolved.checkpointing)
        if less is None:
            return False
        micro, kept, sparing = less
        mode = "checkpointed" if sparing else "cached"
        self.resolved = dataclasses.replace(resolved, mode=mode, micro_batch=micro, kept=kept, checkpointing=sparing)
        return True

    def lr(self, step: int) -> float:
        """The learning rate of a step."""
        return rate(self.settings.schedule, self.peak, step, self.steps_per_epoch)

    def update(self, loss: Tensor, step: int) -> bool:
        """Move weights and running statistics; leave everything as it was where loss or gradient is not finite.

        Raises:
            DivergedError: the third such loss in a row.
        """
        grads = [p.grad for p in self.objective.parameters() if p.grad is not None]
        self.grad_norm = torch.nn.utils.get_total_norm(grads)
        finite = bool(torch.isfinite(loss + self.grad_norm))
        if finite:
            set_rate(self.optimiser, self.lr(step))
            self.optimiser.step()
            self.moments.commit()
            self.bad_steps = 0
        else:
            self.moments.clear()
            self.bad_steps += 1
        self.optimiser.zero_grad(set_to_none=True)
        if self.bad_steps >= BAD_STEPS:
            raise DivergedError(
                f"Loss or gradient was not finite in {BAD_STEPS} steps in a row, up to step {step + 1}.",
                "Start again with a lower --lr or a longer --set schedule.warmup; the last checkpoint is from before.",
            )
        return finite

    def observe(self, step: int, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, float] | None:
        """The numbers of z after `step` steps, before any state moves; None where nothing is to be told."""
        return self.meter.observe(step, z, targets, batch)

    def report(self, step: int, loss: Tensor, numbers: Mapping[str, float] | None) -> Iterator[Event]:
        """What there is to say after `step` steps: files skipped, steps lost, numbers where there are some."""
        yield from self.skipped(step)
        if self.bad_steps:
            yield Warned(step=step, message="Loss or gradient was not finite; this step was left out.")
        if numbers is not None:
            epoch, lr = step / self.steps_per_epoch, self.lr(step - 1)
            yield from self.meter.report(step, epoch, float(loss), lr, float(self.grad_norm), numbers)

    def skipped(self, step: int) -> Iterator[Event]:
        """The files that could not be read since this was last asked."""
        found, self.loader.skipped[:] = list(self.loader.skipped), []
        yield from (dataclasses.replace(event, step=step) for event in found)

    def save_if_due(self, step: int, *, now: bool = False) -> Iterator[Event]:
        """A checkpoint after `step` steps, where one is due."""
        every = self.settings.run.checkpoint_every
        due = step % every == 0 if every else time.monotonic() - self.saved >= SAVE_SECONDS
        if not (due or now or step == self.steps):
            return
        if not all(bool(torch.isfinite(p).all()) for p in self.objective.parameters()):
            raise DivergedError(
                f"Weights are no longer finite at step {step}; they were not saved.",
                "Start again with a lower --lr or a longer --set schedule.warmup; the last checkpoint is from before.",
            )
        path = checkpoint.save(self.folder.checkpoints, self.state(step), self.settings.run.keep)
        self.saved = time.monotonic()
        yield Saved(step=step, path=str(path), size=path.stat().st_size)

    def state(self, step: int) -> dict[str, Any]:
        """All that `restore` needs, as tensors and primitives."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "resolved": plan.as_dict(self.resolved),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": step,
            "epoch": step // self.steps_per_epoch,
            "cursor": step % self.steps_per_epoch,
            # every draw is a hash of seed, epoch, image, view and slot: there is no generator to save
            "rng": {"seed": self.settings.run.seed},
        }

    def asked_to_stop(self, step: int) -> Stopped | None:
        """The event that ends the run early, if a signal came or its time is over."""
        if step == self.steps:
            return None
        if self.request.signal is not None:
            return Stopped(
                step=step, exit_code=self.request.exit_code, reason=f"{self.request.signal.name} was received"
            )
        limit = self.settings.run.max_time
        if limit is not None and time.monotonic() - self.began >= limit:
            return Stopped(step=step, exit_code=STOPPED, reason=f"its time of {limit:g} s is over")
        return None

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises."""
        return warmup_steps(self.settings.schedule, self.steps_per_epoch)

    def _rowwise(self, call: Any, views: int, step: int, stream: int) -> Rowwise:
        seed = self.settings.run.seed
        groups = bn_groups(self.settings.run.batch, views, self.settings.model.bn_group, seed, step, stream)
        draw = (seed * 1_000_003 + step) * 7 + stream
        micro, sparing = self.resolved.micro_batch, self.resolved.checkpointing
        return Rowwise(self.objective, call, groups, micro, self.autocast, draw * 65_537, sparing)
