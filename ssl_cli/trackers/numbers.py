"""What a tracker shows of an event: numbers by name, such as `train/loss`."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ssl_cli.events import Evaluated, Event, Finished, Stepped

TRAIN, END = "train", "run"
STEPPED = ("epoch", "loss", "chance", "lr", "rate", "step_seconds", "data_wait", "memory", "grad_norm")
"""Fields of `Stepped` that are shown."""
DEEPEST, MOST = 4, 200
"""Tables within a result that are read, and numbers of an event."""
LONGEST = 200
"""Characters of a name."""


def series_of(event: Event) -> str:
    """Return what the numbers of the event belong to, `train` or the name of a result; empty: it has none."""
    match event:
        case Stepped():
            return TRAIN
        case Finished():
            return END
        case Evaluated(name=name):
            return name
        case _:
            return ""


def numbers_of(event: Event) -> dict[str, float]:
    """Return the finite numbers of the event by name, of a result those in nested tables too, but of classes."""
    match event:
        case Stepped():
            fields: dict[str, Any] = {name: getattr(event, name) for name in STEPPED}
            fields |= {**event.numbers, **{f"wait_{name}": share for name, share in event.waits.items()}}
        case Finished():
            fields = {"seconds": event.seconds, "peak_memory": event.peak_memory, "rate": event.rate}
        case Evaluated(result=result):
            fields = {key: value for key, value in result.items() if key != "per_class"}
        case _:
            return {}
    found = dict[str, float]()
    for name, value in _leaves(fields, series_of(event), DEEPEST):
        if len(found) < MOST:
            found[re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)[:LONGEST]] = value
    return found


def _leaves(table: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and depth > 1:
            yield from _leaves(value, f"{prefix}/{name}", depth - 1)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}/{name}", float(value)
