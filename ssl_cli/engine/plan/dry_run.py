"""Plan a run without a run folder and without reading all images."""

import time
from collections.abc import Iterator
from pathlib import Path

from ssl_cli.config.tree import Settings
from ssl_cli.data.glance import glance
from ssl_cli.data.loader import require_batch
from ssl_cli.data.measured import measured
from ssl_cli.engine.build import build_objective, resolve_device
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.size import size, work_of
from ssl_cli.events import Event, Planned, Sized, Warned
from ssl_cli.planning.forecast import forecast
from ssl_cli.planning.queue import cap_queue
from ssl_cli.weights.initial import read_initial, recorded


def dry_run(settings: Settings) -> Iterator[Event]:
    """Yield `Planned`, `Sized` where the run has a time, and warnings.

    Raises:
        CheckpointError: the weights to start from are missing or of another network.
        DataError: no images, or fewer than the batch.
        ResourceError: the run would not fit the memory.
        UsageError: no such device or method.
    """
    began = time.monotonic()
    initial = read_initial(settings)
    settings = recorded(settings, initial)
    enough = 2 * getattr(settings.method, "queue", settings.run.batch)
    data, device = glance(settings.data, settings.run.seed, enough=enough), resolve_device(settings.hardware.device)
    settings, data_choices = measured(settings, data.few)
    require_batch(data.where, data.images, 2 if "run.batch" in settings.run.fit else settings.run.batch)
    sized = size(settings, data.images, data.few, device)
    settings, notes = cap_queue(sized.settings, data.images)
    objective = build_objective(settings, device, data.images, initial, data.few)
    starts = [initial.choice(objective, settings)] if initial else []
    out, few, spent = Path(settings.run.out or "runs"), data.few, time.monotonic() - began
    where = "; ".join(filter(None, [data.where, data.note]))
    found = plan.make_plan(settings, objective, data.images, where, few, out, dry_run=True, spent=spent)
    yield Planned(choices=(*sized.choices, *data_choices, *starts, *found.choices), expected=found.expected)
    if found.resolved.timing is not None:
        yield Sized(
            rows=forecast(work_of(settings, data.images, sized.side, objective), found.settings, found.resolved.timing)
        )
    for note in (*sized.warnings, *notes, *found.warnings, *filter(None, [data.doubt])):
        yield Warned(message=note)
