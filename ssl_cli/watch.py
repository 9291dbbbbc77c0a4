"""A run as it goes, from another process: its status and its metrics are read, and nothing is written or held."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssl_cli import disk, records, status
from ssl_cli.errors import STOPPED, CheckpointError
from ssl_cli.events import Calibrated, Evaluated, Event, Planned, Saved, Started, Stepped, Stopped, from_record
from ssl_cli.names import shown

PAUSE = 0.5
"""Seconds between two looks at the files."""
AT_ONCE = 1 << 22
"""Bytes that are read at once."""
ONLINE = "online_knn"


def watch(folder: Path, pause: Callable[[], None] = lambda: time.sleep(PAUSE)) -> Iterator[Event]:
    """Yield the events of a run, those that are there and then each as it is written, until the run ends.

    Of a resumed run, what its earlier processes logged of training comes first. A run that ended without saying so
    ends with a `Stopped` that names the reason: the error, or that its process died.

    Args:
        folder: the run folder.
        pause: waits between two looks at the files.

    Raises:
        CheckpointError: there is no run, or another one has taken its place.
    """
    if not status.read(folder):
        raise CheckpointError(
            f"There is no run in {shown(str(folder))}.", "Give a run folder, as sslcli runs lists them."
        )
    lines, last, step = _Lines(folder), Event(), 0
    waiting = list(lines.new())
    planned = max((k for k, event in enumerate(waiting) if isinstance(event, Planned)), default=0)
    earlier = [event for event in waiting[:planned] if _is_of_training(event)]
    batch: Iterator[Event] = iter([*earlier, *waiting[planned:]])
    while True:
        for event in batch:
            last = replace(event, out=str(folder)) if isinstance(event, Started) else event
            step = event.step if isinstance(event, Started | Stepped | Saved) else step
            yield last
        state = _state(folder)
        batch = lines.new()  # after the state: what was written before it ended is there
        if state == status.RUNNING:
            pause()
            continue
        for event in batch:
            last, step = event, event.step if isinstance(event, Started | Stepped | Saved) else step
            yield last
        break
    if state != status.FINISHED and not isinstance(last, Stopped):
        about = status.read(folder)
        code, reason = records.whole(about.get("exit_code")), str(about.get("reason") or state)
        if state == status.DIED:
            code, reason = STOPPED, "its process was killed, or the machine stopped"
        yield Stopped(step=step, exit_code=code or STOPPED, reason=reason, state=str(state))


def _state(folder: Path) -> str | None:
    """Return the state of the run; one that ended between two looks has not died."""
    state = status.state(folder)
    return status.state(folder) if state == status.DIED else state


def _is_of_training(event: Event) -> bool:
    return isinstance(event, Started | Calibrated | Stepped) or (isinstance(event, Evaluated) and event.name == ONLINE)


class _Lines:
    """Read what is appended to a run's `metrics.jsonl`, whole lines alone."""

    def __init__(self, folder: Path) -> None:
        self._path, self._position, self._rest = folder / records.METRICS, 0, b""

    def new(self) -> Iterator[Event]:
        """Yield the events since the last call.

        Raises:
            CheckpointError: the file is shorter than it was.
        """
        while data := self._read():
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest if len(self._rest) <= records.LONGEST else b""
            for line in lines:
                for found in records.event_of(line):
                    event = from_record(found)
                    if event is not None and _is_complete(event):
                        yield event

    def _read(self) -> bytes:
        try:
            disk.require_file(self._path)
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._position:
                    where = shown(str(self._path.parent))
                    raise CheckpointError(f"Another run has taken the place of the one in {where}.", "Watch that one.")
                file.seek(self._position)
                data = file.read(AT_ONCE)
        except OSError:
            return b""
        self._position += len(data)
        return data


def _is_complete(event: Event) -> bool:
    """Whether an event has what a display reads of it."""
    if not isinstance(event, Evaluated) or event.name != ONLINE:
        return True
    result: dict[str, Any] = dict(event.result)
    numbers = (records.whole(result.get(name)) for name in ("k", "bank", "queries"))
    return records.share(result.get("top1")) is not None and None not in numbers
