"""The training loop: one step of any method, from its views to its checkpoint."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from ssl_cli import checkpoint, distributed, memory, records
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader
from ssl_cli.engine.gradient import MicroBatched, compute_gradient
from ssl_cli.engine.metrics import Metrics, observe
from ssl_cli.engine.plan import oom
from ssl_cli.engine.plan.compile import allowed
from ssl_cli.engine.rows import QUERIES, TARGETS, Shard, StepRows, step_rows
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.engine.run.state import capture_state
from ssl_cli.engine.views import ViewLoader, Views, pipeline_by_step
from ssl_cli.engine.workers.exchange import Exchange
from ssl_cli.errors import DivergedError, convert_exception
from ssl_cli.events import Calibrated, Event, Finished, Saved, Started, Warned
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.nn.compile import disable_compile, mark_step_begin, set_compile
from ssl_cli.nn.precision import MEMORY_FORMATS, autocast, view_dtype
from ssl_cli.objective import Batch, Objective, Targets
from ssl_cli.optim.build import build_optimiser, set_rate
from ssl_cli.optim.schedule import peak_rate, rate
from ssl_cli.planning.resolved import Resolved
from ssl_cli.planning.timing import RunSchedule
from ssl_cli.signals import StopRequest
from ssl_cli.tensor_file import non_finite

SAVE_SECONDS = 60.0
MAX_NON_FINITE = 3
LOWER_RATE = "Start again with a lower --lr or a longer --set schedule.warmup; the last checkpoint is from before."


def train(run: "Trainer") -> Iterator[Event]:
    """Train to the last step, or until a signal or `run.max_time` stops the run; yield what happens.

    Raises:
        DataError: too many images cannot be read.
        DivergedError: loss or gradient were not finite in three steps in a row, or the representation collapsed.
        OutOfMemoryError: not even the smallest micro-batch fits.
    """
    memory.release()  # what planning allocated
    schedule = run.schedule
    yield started(run)
    metrics = Metrics(run.settings, run.loader, run.objective, run.resolved, schedule.steps)
    metrics.start(run.start)
    exchange = Exchange(run.loader, run.stop, run.settings.run.max_time)
    run.views.start(run.start, schedule.steps)
    began = time.monotonic()
    for number in schedule.numbers(run.start):
        step = number + 1
        while True:
            try:
                views, batch = run.views.take(number)
                targets = run.targets(views, batch)
                loss, z = run.gradient(views, targets, batch)
                break
            except Exception as error:
                warning = run.retry(error, number)
            yield warning
            run.discard_gradient()
        run.views.prefetch()  # before the host waits for this step
        grad_norm = get_total_norm([p.grad for p in run.objective.parameters() if p.grad is not None])
        # the only time in a step that the host waits for the device
        finite = bool(distributed.to_host(torch.isfinite(loss + grad_norm)))
        logged = run.folder is not None and metrics.due(step)
        numbers = observe(run.objective, z, targets, batch) if logged else {}  # before any state moves
        if finite:
            run.update(number)
            run.objective.after_step(z, targets, batch, schedule.progress(step))
        run.taken = step
        skipped, stopped = exchange.after_step(step)
        yield from skipped
        if calibrated := calibrate(run, step):
            metrics.steps = schedule.steps
            yield calibrated
        if not finite:
            yield run.skip_step(step)
        if logged:
            facts = {"loss": float(loss), "lr": run.lr(number), "grad_norm": float(grad_norm)}
            facts |= {"epoch": step / run.loader.steps_per_epoch, "done": schedule.share_of_time(step)}
            yield from metrics.report(step, numbers=numbers, **facts)
        if run.folder is not None and (stopped or run.save_due(step)):
            yield run.save(step)
        if stopped and step < schedule.steps:
            yield stopped
            return
        del views, z, targets  # released before the next step's views are made
    seconds = time.monotonic() - began
    steps, peak = schedule.steps, memory.peak(run.device)
    throughput = (steps - run.start) * run.settings.run.batch / max(seconds, 1e-9)
    yield Finished(step=steps, steps=steps, seconds=seconds, peak_memory=peak, rate=throughput)


def started(run: "Trainer") -> Started:
    """Describe where the run starts."""
    out, start, schedule = str(run.folder.path) if run.folder else "", run.start, run.schedule
    done, resumed = schedule.share_of_time(start), start > 0
    before = sum(records.sessions(records.events(run.folder.path))) if run.folder else 0.0
    return Started(
        step=start, out=out, steps=schedule.steps, warmup=schedule.warmup, resumed=resumed, done=done, seconds=before
    )


def calibrate(run: "Trainer", step: int) -> Calibrated | None:
    """Correct the number of epochs by the time of the steps taken, where due, and record it before the next step."""
    before = run.schedule.steps
    found = run.schedule.after_step(step) if distributed.world_size() == 1 else None
    if found is not None:
        run.resolved = replace(run.resolved, calibrations=run.schedule.calibrations)
        if run.folder is not None:
            run.folder.amend_plan(resolved=run.resolved.as_dict())
        if found.steps != before:
            run.views.start(step, found.steps)
    return found


def save_unsaved(run: "Trainer") -> None:
    """Write a checkpoint of the steps taken since the last one, if any; errors as `Trainer.save`."""
    if run.folder is not None and run.taken > max(run.start, run.saved_step):
        run.save(run.taken)


class Trainer:
    """Hold what a step of one rank needs: objective, optimiser, views and BatchNorm moments.

    Args:
        settings: settings of the run.
        resolved: the plan's choices; changed where a step is out of memory.
        objective: what is trained, on its device.
        loader: batches of images.
        folder: the run folder on rank 0, which logs, evaluates and saves; None on other ranks.
        stop: set by signals; default: never.
    """

    def __init__(
        self,
        settings: Settings,
        resolved: Resolved,
        objective: Objective,
        loader: Loader,
        folder: RunFolder | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self.settings, self.resolved, self.loader, self.folder = settings, resolved, loader, folder
        self.stop = stop or StopRequest()
        self.device = torch.device(resolved.device)
        memory_format = MEMORY_FORMATS[resolved.memory_format]
        self.objective = objective.train().to(memory_format=memory_format)
        self.schedule = RunSchedule(settings, loader.steps_per_epoch, resolved.timing, resolved.calibrations)
        self.peak_lr = peak_rate(settings.optim, settings.run.batch)
        self.optimiser = build_optimiser(objective, settings.optim, self.peak_lr, objective.plain_parameters)
        self.moments = Moments()
        pipeline = pipeline_by_step(settings.views, settings.run.seed, self.schedule.view_size)
        dtype = view_dtype(resolved.precision)
        self.views = ViewLoader(
            loader, pipeline, objective, self.rows, device=self.device, memory_format=memory_format, dtype=dtype
        )
        self.start = self.taken = self.non_finite = 0
        self._saved, self.saved_step = time.monotonic(), 0
        self._masks = non_finite(objective.state_dict())  # infinite from the start, such as that of causal attention
        split = self.rows(0).across_ranks
        set_compile(objective, allowed(resolved.compile, world_size=distributed.world_size(), split_groups=split))

    def rows(self, step: int) -> StepRows:
        """Return which rows of a step this rank runs."""
        views, run, group = self.objective.gradient_views, self.settings.run, self.settings.model.bn_group
        return step_rows(views, run.batch, group, run.seed, step, distributed.world_size(), distributed.rank())

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        return rate(self.schedule.at(step), self.peak_lr, step, self.loader.steps_per_epoch)

    def targets(self, views: Views, batch: Batch) -> Targets:
        """Return the objective's targets for the images of all ranks, computed in micro-batches without gradient."""
        mark_step_begin(self.resolved.compile)
        if not self.objective.has_targets:
            return None
        numbers = range(self.objective.views)
        call = lambda rows: self.objective.targets([views.view(k, rows) for k in numbers], batch.rows(rows))  # noqa: E731
        return self._micro_batched(call, self.rows(batch.step).targets, batch.step, TARGETS).forward_all(self.moments)

    def gradient(self, views: Views, targets: Targets, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return loss and z of all ranks; leave the gradient, summed over ranks, in the parameters."""
        shard = self.rows(batch.step).queries
        # rows of the first views come first, and those beyond `gradient_views` are never asked for
        rows = self._micro_batched(lambda rows: self.objective(views.rows(rows)), shard, batch.step, QUERIES)
        loss_of = lambda z: self.objective.loss(z, targets, batch)  # noqa: E731
        loss, z = compute_gradient(rows, loss_of, self.moments, self.resolved.kept_graphs)
        distributed.all_reduce_gradients(self.objective.parameters())
        self.moments.pool()
        return loss, z

    def update(self, step: int) -> None:
        """Move weights and running statistics by the gradient of `step`, from 0."""
        set_rate(self.optimiser, self.lr(step))
        self.optimiser.step()
        self.moments.commit()
        self.optimiser.zero_grad(set_to_none=True)
        self.non_finite = 0

    def discard_gradient(self) -> None:
        """Release the gradient and the moments of a step that is run again or skipped."""
        self.moments.clear()
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def skip_step(self, step: int) -> Warned:
        """Skip a step whose loss or gradient is not finite: neither weights nor state have moved.

        Raises:
            DivergedError: it is the third one in a row.
        """
        self.discard_gradient()
        self.non_finite += 1
        if self.non_finite >= MAX_NON_FINITE:
            what = f"Loss or gradient was not finite in {MAX_NON_FINITE} steps in a row, up to step {step}."
            raise DivergedError(what, LOWER_RATE)
        return Warned(step=step, message="Loss or gradient was not finite; this step was skipped.")

    def retry(self, error: Exception, step: int) -> Warned:
        """Prepare to run a step again: with smaller micro-batches if out of memory, eagerly if compiling failed.

        Nothing has moved by then. On several ranks the others are blocked in the middle of the step, so the run ends
        and the next `--resume` takes the smaller micro-batches.

        Raises:
            OutOfMemoryError: out of memory on one of several ranks.
            Exception: `error` itself, where neither would help.
        """
        sizes = self.rows(step).queries.local.sizes
        if distributed.world_size() > 1 and convert_exception(error).out_of_memory:
            raise oom.out_of_memory_error(self.resolved, sizes, step, distributed.rank()) from error
        smaller = None if distributed.world_size() > 1 else oom.retry_smaller(error, self.resolved, sizes, step)
        if smaller is None:
            raise error
        before, (self.resolved, warning) = self.resolved.compile, smaller
        if self.folder is not None:
            self.folder.amend_plan(resolved=self.resolved.as_dict())
        if self.resolved.compile != before:
            disable_compile(self.objective)
        return warning

    def save_due(self, step: int) -> bool:
        """Return whether a checkpoint is due after `step` steps."""
        if every := self.settings.run.checkpoint_every:
            return step % every == 0 or step == self.schedule.steps
        return step == self.schedule.steps or time.monotonic() - self._saved >= SAVE_SECONDS

    def save(self, step: int) -> Saved:
        """Write a checkpoint.

        Raises:
            DivergedError: a weight, a statistic or a moment is not finite; nothing is written.
            ResourceError: the disk is full.
        """
        assert self.folder is not None
        per_epoch = self.loader.steps_per_epoch
        settings = self.settings.model_copy(update={"schedule": self.schedule.schedule})
        state = capture_state(settings, self.resolved, self.objective, self.optimiser, step, per_epoch)
        state["non_finite"] = self._masks
        for name in non_finite(state["objective"], state["optimiser"], known=self._masks):
            raise DivergedError(f"'{name}' is no longer finite at step {step}; it was not saved.", LOWER_RATE)
        path = checkpoint.save(self.folder.checkpoints, state, self.settings.run.keep, self.folder.id)
        self._saved, self.saved_step = time.monotonic(), step
        return Saved(step=step, path=str(path), size=path.stat().st_size)

    def _micro_batched(self, call: Any, shard: Shard, step: int, stream: int) -> MicroBatched:
        seed = (((self.settings.run.seed * 1_000_003 + step) * 7 + stream) * 1_009 + shard.rank) * 65_537
        context, plan = autocast(self.device, self.resolved.precision), self.resolved
        return MicroBatched(self.objective, call, shard, plan.micro_batch, context, seed, plan.checkpointing)
