"""A run assembled: what the loop drives, from settings or from a checkpoint."""

import dataclasses
import json
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader
from ssl_cli.engine.gate import gate
from ssl_cli.engine.gradient import Rowwise, autocast, backward
from ssl_cli.engine.metrics import Meter
from ssl_cli.engine.plan import memory, plan, shortage
from ssl_cli.engine.plan.budget import step_groups
from ssl_cli.engine.plan.compile import abandon, shared, step_begins, switch
from ssl_cli.engine.plan.probe import FORMATS
from ssl_cli.engine.run import checkpoint
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.engine.run.signals import StopRequest, exit_code, stop_reason
from ssl_cli.engine.shards import QUERIES, TARGETS, Share, StepShare, Views, step_share
from ssl_cli.engine.views import Staging
from ssl_cli.errors import STOPPED, CheckpointError, DivergedError, convert_exception
from ssl_cli.events import Event, Saved, Skipped, Stopped, Warned
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.objective import Batch, Objective, Targets
from ssl_cli.optim.build import build_optimiser, set_rate
from ssl_cli.optim.schedule import peak_rate, rate, warmup_steps

SAVE_SECONDS = 60.0
BAD_STEPS = 3


class Job:
    """Everything a step needs; moves in `update` and `after_step`, and where a step is taken back (`gate`)."""

    def __init__(
        self,
        settings: Settings,
        resolved: plan.Resolved,
        objective: Objective,
        loader: Loader,
        folder: RunFolder | None,
    ) -> None:
        self.settings, self.resolved, self.folder = settings, resolved, folder
        self.request = StopRequest()
        self.device = torch.device(resolved.device)
        layout = FORMATS[resolved.memory_format]
        self.objective, self.loader = objective.train().to(memory_format=layout), loader
        self.steps_per_epoch = loader.steps_per_epoch
        self.steps = self.steps_per_epoch * settings.schedule.epochs
        self.peak = peak_rate(settings.optim, settings.run.batch)
        self.optimiser = build_optimiser(objective, settings.optim, self.peak)
        self.staging = Staging(settings, resolved, objective, loader)
        self.autocast = autocast(self.device, resolved.precision)
        self.moments = Moments()
        self.gate = gate(objective, self.optimiser, self.device)
        self.start = 0
        self.bad_steps = 0
        self._told = set[str]()
        self._judged: int | None = None
        self._lost: list[int] = []
        switch(objective, shared(resolved.compile, self.share(0)))
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

    def batches(self) -> Iterator[tuple[Views, Batch]]:
        """What steps take, from where the run stands to its end; of several processes, each one's rows of it."""
        memory.give_back()  # what planning held
        self.meter.begin(self.start)
        return self.staging.batches(self.start, self.steps)

    def share(self, step: int) -> StepShare:
        """What of a step's rows passes in this process."""
        return step_share(self.settings, self.objective, step)

    def targets(self, views: Views, batch: Batch) -> Targets:
        """The objective's targets, in micro-batches of their own BatchNorm groups."""
        if not self.objective.has_targets:
            return None
        numbers = range(self.objective.views)
        rowwise = self._rowwise(
            lambda rows: self.objective.targets([views.view(k, rows) for k in numbers], batch.rows(rows)),
            self.share(batch.step).targets,
            batch.step,
            TARGETS,
        )
        return rowwise.without_gradient(self.moments)

    def backward(self, views: Views, targets: Targets, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and z of the whole batch; the gradient, of all processes' rows, is in the parameters."""
        # rows of the first views stand first, and those beyond `gradient_views` are never asked for
        queries = self.share(batch.step).queries
        rowwise = self._rowwise(lambda rows: self.objective(views.rows(rows)), queries, batch.step, QUERIES)
        loss = lambda z: self.objective.loss(z, targets, batch)  # noqa: E731
        found = backward(rowwise, loss, self.moments, self.resolved.kept)
        distributed.all_reduce_gradients(self.objective.parameters())
        self.moments.pool()
        return found

    def gradient(self, x: Views, batch: Batch) -> Generator[Event, None, tuple[Targets, Tensor, Tensor]]:
        """Targets, loss and z; where memory runs out, the batch is divided further and the step begins again.

        Nothing has moved by then, so nothing is lost; and it is said. It begins again, too, where the weights it took
        turn out to be those of a step that is taken back, and without compiling where that fails.

        Raises:
            DivergedError: as `update`.
        """
        while True:
            step_begins(self.resolved.compile)
            try:
                targets = self.targets(x, batch)
                found = targets, *self.backward(x, targets, batch)
            except Exception as error:
                told = self._simpler(error, batch.step)
                if told is None:
                    raise
                yield told
            else:
                self._settle()
                if not self.gate.took_back():
                    return found
            self.moments.clear()
            self.optimiser.zero_grad(set_to_none=True)

    def _simpler(self, error: Exception, step: int) -> Warned | None:
        """Set the job, and who resumes it, to a way in which the step may succeed; None: there is none."""
        sizes = step_groups(self.settings, self.objective)
        if distributed.world_size() > 1:  # the others wait for us
            if convert_exception(error).out_of_memory:
                raise shortage.ended(self.resolved, sizes, step, distributed.rank()) from error
            return None
        found = shortage.simpler(error, self.resolved, sizes, step)
        if found is None:
            return None
        before = self.resolved.compile
        self.resolved, told = found
        if self.folder is not None:
            self.folder.amend_plan(resolved=plan.as_dict(self.resolved))
        if self.resolved.compile != before:
            abandon(self.objective)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return told

    def lr(self, step: int) -> float:
        """The learning rate of a step."""
        return rate(self.settings.schedule, self.peak, step, self.steps_per_epoch)

    def update(self, loss: Tensor, step: int) -> bool:
        """Move weights and running statistics; leave everything as it was where loss or gradient is not finite.

        Returns whether `after_step` is to follow; see `ssl_cli.engine.gate`.

        Raises:
            DivergedError: the third such loss in a row.
        """
        grads = [p.grad for p in self.objective.parameters() if p.grad is not None]
        self.grad_norm = torch.nn.utils.get_total_norm(grads)
        admitted = self.gate.admits(torch.isfinite(loss + self.grad_norm))
        self._judged = step + 1
        if admitted:
            set_rate(self.optimiser, self.lr(step))
            self.optimiser.step()
            self.moments.commit()
        else:
            self.moments.clear()
        self.optimiser.zero_grad(set_to_none=True)
        if self.gate.known:
            self._settle()
        return admitted

    def _settle(self) -> None:
        """Count the last step, once, as good or bad."""
        step, self._judged = self._judged, None
        if step is None:
            return
        if self.gate.settle():
            self.bad_steps = 0
            return
        self.bad_steps += 1
        self._lost.append(step)
        if self.bad_steps >= BAD_STEPS:
            raise DivergedError(
                f"Loss or gradient was not finite in {BAD_STEPS} steps in a row, up to step {step}.",
                "Start again with a lower --lr or a longer --set schedule.warmup; the last checkpoint is from before.",
            )

    def observe(self, step: int, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, float] | None:
        """The numbers of z after `step` steps, before any state moves; None where nothing is to be told."""
        return self.meter.observe(step, z, targets, batch)

    def report(self, step: int, loss: Tensor, numbers: Mapping[str, float] | None) -> Iterator[Event]:
        """What there is to say after `step` steps: files skipped, steps lost, numbers where there are some."""
        yield from self._skipped_anywhere(step)
        yield from self._left_out()
        if numbers is not None:
            self._settle()  # what is told, and measured, is of weights that stay
            yield from self._left_out()
            epoch, lr = step / self.steps_per_epoch, self.lr(step - 1)
            yield from self.meter.report(step, epoch, float(loss), lr, float(self.grad_norm), numbers)

    def _left_out(self) -> Iterator[Event]:
        lost, self._lost = self._lost, []
        for step in lost:
            yield Warned(step=step, message="Loss or gradient was not finite; this step was left out.")

    def skipped(self, step: int) -> Iterator[Skipped]:
        """The files that could not be read since this was last asked."""
        found, self.loader.skipped[:] = list(self.loader.skipped), []
        yield from (dataclasses.replace(event, step=step) for event in found)

    def _skipped_anywhere(self, step: int) -> Iterator[Event]:
        """The same of all processes; a file that several of them met is told once."""
        found = [(event.path, event.reason) for event in self.skipped(step)]
        for words in distributed.all_gather_bytes(json.dumps(found).encode() if found else b""):
            for path, reason in json.loads(words or b"[]"):
                if path not in self._told:
                    self._told.add(path)
                    yield Skipped(step=step, path=path, reason=reason)

    def save_if_due(self, step: int, *, now: bool = False) -> Iterator[Event]:
        """A checkpoint after `step` steps, where one is due."""
        every = self.settings.run.checkpoint_every
        due = step % every == 0 if every else time.monotonic() - self.saved >= SAVE_SECONDS
        if not (due or now or step == self.steps):
            return
        self._settle()
        yield from self._left_out()
        if not all(bool(torch.isfinite(p).all()) for p in self.objective.parameters()):
            raise DivergedError(
                f"Weights are no longer finite at step {step}; they were not saved.",
                "Start again with a lower --lr or a longer --set schedule.warmup; the last checkpoint is from before.",
            )
        assert self.folder is not None
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
        """The event that ends the run early, if a signal came to any process or its time is over."""
        if step == self.steps:
            return None
        limit = self.settings.run.max_time
        over = limit is not None and time.monotonic() - self.began >= limit
        signal, late = distributed.all_reduce_max(self.request.signal or 0, int(over))
        if signal:
            return Stopped(step=step, exit_code=exit_code(signal), reason=stop_reason(signal))
        if late:
            return Stopped(step=step, exit_code=STOPPED, reason=f"its time of {limit:g} s is over")
        return None

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises."""
        return warmup_steps(self.settings.schedule, self.steps_per_epoch)

    def _rowwise(self, call: Any, share: Share, step: int, stream: int) -> Rowwise:
        draw = ((self.settings.run.seed * 1_000_003 + step) * 7 + stream) * 1_009 + share.rank
        micro, sparing = self.resolved.micro_batch, self.resolved.checkpointing
        return Rowwise(self.objective, call, share, micro, self.autocast, draw * 65_537, sparing)
