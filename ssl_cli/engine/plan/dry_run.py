"""Plan a run without a run folder and without reading all images."""

from collections.abc import Iterator
from pathlib import Path

from ssl_cli.config.tree import Settings
from ssl_cli.data.glance import glance
from ssl_cli.data.loader import require_batch
from ssl_cli.engine.build import build_objective, resolve_device
from ssl_cli.engine.plan import plan
from ssl_cli.events import Event, Planned, Warned


def dry_run(settings: Settings) -> Iterator[Event]:
    """Yield `Planned`, and warnings.

    Raises:
        DataError: no images, or fewer than the batch.
        ResourceError: the run would not fit the memory.
        UsageError: no such device or method.
    """
    seen = glance(settings.data, settings.run.seed, enough=2 * getattr(settings.method, "queue", settings.run.batch))
    require_batch(seen.where, seen.images, settings.run.batch)
    settings, notes = plan.cap_queue(settings, seen.images)
    objective = build_objective(settings, resolve_device(settings.hardware.device), seen.images)
    out, few = Path(settings.run.out or "runs"), seen.few
    found = plan.make_plan(settings, objective, seen.images, seen.where, few, out, dry_run=True)
    yield Planned(choices=found.choices, expected=found.expected)
    for note in (*notes, *found.warnings, *filter(None, [seen.doubt])):
        yield Warned(message=note)
