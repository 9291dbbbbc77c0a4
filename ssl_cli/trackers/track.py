"""The events of a run on their way, shown to its trackers; and a result that is measured later."""

import functools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from ssl_cli import packages, records, status
from ssl_cli.config.toml_file import flatten
from ssl_cli.errors import Interrupted
from ssl_cli.events import Choice, Event, Finished, Planned, Stopped, Warned
from ssl_cli.names import shown
from ssl_cli.registry import TRACKERS
from ssl_cli.runs import settings_of
from ssl_cli.trackers.kinds import KINDS, TrackedRun, Tracker, quieten
from ssl_cli.trackers.numbers import END, TRAIN, numbers_of, series_of
from ssl_cli.trackers.places import earlier_id, keep_id
from ssl_cli.trackers.recorder import Recorder, close, muted

IMPORT_SECONDS = 20.0
"""How long a run waits for their libraries to be imported, which would slow its first steps, by which it is timed."""
FINISH_SECONDS, STOP_SECONDS = 20.0, 5.0
"""How long all trackers together have to write what waits, at the end of a run, and of one that is stopped or fails."""
ENDS = {Finished: (status.FINISHED, FINISH_SECONDS), Stopped: (status.STOPPED, STOP_SECONDS)}
"""By a run's last event: its state, and how long its trackers have."""


def tracked(
    events: Generator[Event, None, None], record: Callable[[Event], None], folder: Path, id: str
) -> Generator[Event, None, None]:
    """Record each event of a run, pass it to the run's trackers, and yield it; also yield warnings about trackers.

    Args:
        events: of the run; its settings are in its folder when the first one, `Planned`, is here.
        record: writes an event to the run folder, before trackers get it: the `metrics.jsonl` of a resumed run then
            has every step that a tracker may have, and none is passed to it twice.
        folder: of the run.
        id: of the run.

    Raises:
        UsageError: the library of a tracker is missing.
    """
    trackers, state, seconds = Trackers(folder, id), status.FAILED, STOP_SECONDS
    try:
        with closing(events):  # a reader that stops has the run saved before its trackers are closed
            for event in events:
                if isinstance(event, Planned):
                    trackers.open(records.table(settings_of(folder), "run").get("trackers", ()))
                    event = replace(event, choices=(*event.choices, *trackers.choices()))
                if isinstance(event, Finished | Stopped):  # the last event
                    state, seconds = ENDS[type(event)]
                    trackers.put(event)
                    yield from _recorded(trackers.close(state, seconds, event.step), record)
                record(event)
                trackers.put(event)
                yield event
                yield from _recorded(trackers.faults(event.step), record)
    except (Interrupted, GeneratorExit):
        state = status.STOPPED
        raise
    finally:
        deque(trackers.close(state, seconds), maxlen=0)


def _recorded(events: Iterable[Event], record: Callable[[Event], None]) -> Iterator[Event]:
    for event in events:
        record(event)
        yield event


def track_later(folder: Path, event: Event) -> Iterator[Event]:
    """Show a result that was measured after training to the trackers that know the run; yield what failed."""
    names = [name for name in TRACKERS if earlier_id(folder, name) and packages.is_installed(name)]
    if not names or status.state(folder) == status.RUNNING:  # a run that trains has them open
        return
    trackers = Trackers(folder, str(status.read(folder).get("run", "")))
    try:
        trackers.open(names, resumed=False)
        trackers.put(event)
    finally:
        notes = [*trackers.close(status.FINISHED, FINISH_SECONDS, event.step)]
    yield from notes


def require_installed(names: Iterable[str]) -> None:
    """Refuse trackers whose library is missing.

    Raises:
        UsageError: one is.
    """
    for name in names:
        packages.require(name, f"The tracker {name}", "leave the tracker out")


def remembered(name: str, run: TrackedRun) -> Tracker:
    """Open a tracker, and write the id by which it knows the run to the run folder."""
    tracker = KINDS[name](run)
    keep_id(run.folder, name, tracker.id)
    return tracker


class Trackers:
    """The trackers of a run; none until they are opened.

    Args:
        folder: of the run.
        id: of the run.
    """

    def __init__(self, folder: Path, id: str) -> None:
        self._folder, self._id = folder, id
        self._recorders, self._said = list[Recorder](), set[str]()
        self._logged = dict[str, Mapping[str, int]]()
        self._streams = ExitStack()

    def open(self, names: Sequence[str], *, resumed: bool = True) -> None:
        """Open the trackers of these names; where the run is `resumed`, what they logged before is left out.

        Raises:
            UsageError: the library of one is missing.
        """
        require_installed(names)
        if not names:
            return
        quieten()
        self._streams.enter_context(muted())
        settings = dict(flatten(settings_of(self._folder)))
        logged = logged_steps(self._folder) if resumed else {}
        for name in names:
            run = TrackedRun(self._folder, self._id, earlier_id(self._folder, name), settings)
            self._logged[name] = logged if run.earlier else {}
            self._recorders.append(Recorder(name, functools.partial(remembered, name, run)))
        deadline = time.monotonic() + IMPORT_SECONDS
        for recorder in self._recorders:
            recorder.imported.wait(max(0.0, deadline - time.monotonic()))

    def choices(self) -> tuple[Choice, ...]:
        """Return their row of the plan; none without trackers."""
        if not self._recorders:
            return ()
        names = ", ".join(recorder.name for recorder in self._recorders)
        return (Choice(name="trackers", value=names, reason="local, unless their own variables say otherwise"),)

    def put(self, event: Event) -> None:
        """Queue the numbers of the event, but for steps that were logged before."""
        numbers, series = numbers_of(event), series_of(event)
        for recorder in self._recorders:
            if numbers and event.step > self._logged[recorder.name].get(series, -1):
                recorder.put(event.step, numbers)

    def close(self, state: str, seconds: float, step: int = 0) -> Iterator[Event]:
        """Close the trackers within so many seconds; yield what failed, and what was not logged."""
        try:
            close(self._recorders, state, seconds)
        finally:
            self._streams.close()
        yield from self.faults(step)
        for recorder in self._recorders:
            if recorder.dropped:
                what = f"{recorder.dropped:,} events were not logged in {recorder.name}: it was too slow for them."
                yield Warned(step=step, message=what, hint="All are in metrics.jsonl.", about="tracker")
        self._recorders.clear()

    def faults(self, step: int) -> Iterator[Event]:
        """Yield of each tracker once that it failed."""
        for recorder in self._recorders:
            if recorder.fault and recorder.name not in self._said:
                self._said.add(recorder.name)
                what = f"The tracker {recorder.name} failed and is off from here on: {shown(recorder.fault)}."
                yield Warned(step=step, message=what, hint="The run itself is not affected.", about="tracker")


def logged_steps(folder: Path) -> dict[str, int]:
    """Return for each series of numbers in the run's `metrics.jsonl` the last step."""
    found = dict[str, int]()
    for event in records.events(folder):
        step = records.whole(event.get("step"))
        name = {"stepped": TRAIN, "finished": END}.get(event["event"], event.get("name"))
        if step is not None and isinstance(name, str):
            found[name] = max(step, found.get(name, -1))
    return found
