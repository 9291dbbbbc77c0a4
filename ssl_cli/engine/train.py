"""The loop: one screen that trains every method."""

import time
from collections.abc import Iterator

from ssl_cli.engine.job import Job
from ssl_cli.engine.plan import memory
from ssl_cli.events import Event, Finished, Started


def train(job: Job) -> Iterator[Event]:
    """Train from where the job stands to its last step, or until it is asked to stop."""
    objective = job.objective
    yield Started(
        step=job.start,
        out=str(job.folder.path) if job.folder else "",
        steps=job.steps,
        warmup=job.warmup,
        resumed=job.start > 0,
    )
    began = time.monotonic()
    for views, batch in job.batches():
        step = batch.step + 1
        targets, loss, z = yield from job.gradient(views, batch)
        job.staging.ahead()  # before anything waits for this step
        numbers = job.observe(step, z, targets, batch)
        if job.update(loss, batch.step):
            objective.after_step(z, targets, batch, step / job.steps)
        yield from job.report(step, loss, numbers)
        stopped = job.asked_to_stop(step)
        yield from job.save_if_due(step, now=stopped is not None)
        if stopped is not None:
            yield stopped
            return
    seconds = time.monotonic() - began
    rate = (job.steps - job.start) * job.settings.run.batch / max(seconds, 1e-9)
    peak = memory.peak(job.device)
    yield Finished(step=job.steps, steps=job.steps, seconds=seconds, peak_memory=peak, rate=rate)
