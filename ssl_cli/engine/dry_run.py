"""The plan alone: what a run would do and need, without a run folder and without reading images."""

from collections.abc import Iterator

from ssl_cli.config.tree import Settings
from ssl_cli.events import Event


def dry_run(settings: Settings) -> Iterator[Event]:
    """Yield the plan of a run."""
    raise NotImplementedError
