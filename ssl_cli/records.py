"""What a run wrote, read back within limits: what is missing, damaged or no number where one belongs is left out."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_cli import disk

LARGEST = 2.0**62
"""Numbers from here on are not what a run writes."""
FRACTIONS, COUNTS = ("top1", "top5"), ("test", "train", "labelled", "seconds", "parameters")
"""Entries of a result: accuracies, and numbers from 0 on."""
ALL_FIVE = 5
"""Classes up to which top-5 says nothing."""
METRICS = "metrics.jsonl"
"""File of a run's events."""
TRAINING = ("stepped", "saved", "stopped")
"""Events that are written while a process trains."""
LONGEST = 1 << 20
"""Bytes of a line of metrics.jsonl that is read; a plan is the longest one."""


def json_of(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty where there is none."""
    try:
        return disk.read_json(path)
    except (OSError, ValueError):
        return {}


def table(of: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the table at a path of names in nested tables; empty where there is none."""
    found: Any = of
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def result_of(folder: Path, name: str) -> dict[str, Any]:
    """Read the newest result of an evaluation, in `eval/NAME.json`, as `result_in`."""
    return result_in(folder / "eval" / f"{name}.json")


def result_in(file: Path) -> dict[str, Any]:
    """Read the result in a file; accuracies that are no fractions, and counts that are no numbers, are left out."""
    found = dict(table(json_of(file), "result"))
    for key in {*FRACTIONS, *COUNTS} & found.keys():
        value = share(found[key]) if key in FRACTIONS else number(found[key])
        if value is None or value < 0:
            del found[key]
    if 0 < len(table(found, "per_class")) <= ALL_FIVE:  # as earlier versions wrote it
        found.pop("top5", None)
    return found


def events(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the events in the `metrics.jsonl` of a run folder."""
    path = run / METRICS
    with contextlib.suppress(OSError):
        disk.require_file(path)
        with path.open("rb") as lines:
            while line := lines.readline(LONGEST):
                yield from event_of(line)


def sessions(events: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the seconds of training of each process that took steps of the run, in order, without its evaluation."""
    found, first, start = list[float](), None, 0
    for event in events:
        time, step = number(event.get("time")), whole(event.get("step")) or 0
        if event["event"] == "started":
            first, start = time, step
            found.append(0.0)
        elif step > start and found:
            took = number(event.get("seconds")) if event["event"] == "finished" else None
            if took is None and event["event"] in TRAINING and time is not None and first is not None:
                took = time - first
            found[-1] = max(found[-1], took or 0.0)
    return [seconds for seconds in found if seconds > 0]


def logged_steps(run: Path) -> list[dict[str, Any]]:
    """Read the `stepped` events of a run folder in the order of steps; of a step logged twice the later one counts."""
    found = dict[int, dict[str, Any]]()
    for event in events(run):
        if event["event"] == "stepped" and (step := whole(event.get("step"))) is not None:
            found[step] = event
    return [found[step] for step in sorted(found)]


def last_events(run: Path, tail: int) -> Iterator[dict[str, Any]]:
    """Yield the events in the last `tail` bytes of a run's `metrics.jsonl`, the newest first."""
    path = run / METRICS
    with contextlib.suppress(OSError):
        disk.require_file(path)
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - tail, 0))
            for line in reversed(file.read(tail).splitlines()):
                yield from event_of(line)


def event_of(line: bytes) -> Iterator[dict[str, Any]]:
    """Yield the event in a line of `metrics.jsonl`, if it is one."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict) and isinstance(found.get("event"), str):
            yield found


def number(value: Any) -> float | None:
    """Return the value if it is a finite number, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return value if is_number and math.isfinite(value) else None


def whole(value: Any) -> int | None:
    """Return the value as an integer if it is a number from 0, else None."""
    found = number(value)
    return int(found) if found is not None and found >= 0 else None


def share(value: Any) -> float | None:
    """Return the value if it is a fraction, from 0 to 1, else None."""
    found = number(value)
    return float(found) if found is not None and 0 <= found <= 1 else None
