"""What a part of the benchmark finds."""

from dataclasses import dataclass, field

from ssl_cli.bench.advice import Option
from ssl_cli.events import Measured


@dataclass(frozen=True)
class Part:
    """What was measured of a part of the run.

    Attributes:
        measured: to be told.
        seconds: of an image's time, by where it goes (see `advice.Times`).
        options: settings that would change them.
        notes: what to know of it.
    """

    measured: tuple[Measured, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    notes: tuple[str, ...] = ()
