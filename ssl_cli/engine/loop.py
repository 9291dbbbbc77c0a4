"""The loop: one screen that trains every method."""

import time
from collections.abc import Iterator

from ssl_cli.engine.job import Job
from ssl_cli.events import Event, Finished, Started


def train(job: Job) -> Iterator[Event]:
    """Train from where the job stands to its last step, or until it is asked to stop."""
    objective = job.objective
    yield Started(step=job.start, out=str(job.folder.path), steps=job.steps, resumed=job.start > 0)
    began = time.monotonic()
    for batch in job.batches():
        x = job.augment(batch)
        targets = job.targets(x, batch)
        loss, z = job.backward(x, targets, batch)
        step = batch.step + 1
        if job.update(loss, batch.step):
            objective.after_step(z, targets, batch, step / job.steps)
        yield from job.report(step, loss, z, targets, batch)
        stopped = job.asked_to_stop(step)
        yield from job.save_if_due(step, now=stopped is not None)
        if stopped is not None:
            yield stopped
            return
    yield Finished(step=job.steps, steps=job.steps, seconds=time.monotonic() - began, peak_memory=job.peak_memory())
