"""Measure the parts of a run one after the other, within a time budget."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

import psutil

from ssl_cli.bench.advice import LOSS, NETWORK, SHARES, Option, advise, limit
from ssl_cli.bench.machine import measured
from ssl_cli.bench.parts import PARTS, Part
from ssl_cli.bench.run import Run
from ssl_cli.config.tree import Settings
from ssl_cli.events import Advised, Event, Measured, Warned
from ssl_cli.names import shown

ALL, PLAIN, SECONDS, BUSY = "all", "plain", 60.0, 20.0
"""Time of a benchmark; percent of the processors in use by other programs from which on they are mentioned."""


def bench(settings: Settings, what: str = ALL, seconds: float = SECONDS) -> Iterator[Event]:
    """Yield `Measured` for each limit of the machine and each part of the run, then `Advised`.

    Args:
        settings: of the run to measure; `compile` auto counts as off.
        what: a key of `PARTS`, or `all`.
        seconds: time for all, looked at between repetitions; parts that do not fit are left out.

    Raises:
        SslcliError: whatever would keep the run from starting.
    """
    deadline, busy = time.perf_counter() + seconds, psutil.cpu_percent(0.3)
    if busy > BUSY:
        yield Warned(message=f"Other programs use {busy:.0f} % of the processors: the rates are lower for it.")
    compiled = settings.hardware.compile.replace("auto", "off")
    hardware = settings.hardware.model_copy(update={"compile": compiled})
    run = Run(settings.model_copy(update={"hardware": hardware}), deadline)
    if len(run.batch) < run.asked:
        asked = f"A step of {run.asked:,} images would take too long here; {len(run.batch):,} were measured."
        yield Warned(message=f"{asked} The network takes the same time an image, the loss less.")
    names, found, notes = list(PARTS) if what == ALL else [what], list[Found](), list[str]()
    for place, name in enumerate(names):
        if place and time.perf_counter() >= deadline:
            notes.append(f"left out, as {seconds:.0f} s were over: {', '.join(names[place:])}")
            break
        portion = PARTS[name].weight / sum(PARTS[other].weight for other in names[place:])
        run.machine.deadline = time.perf_counter() + portion * (deadline - time.perf_counter())
        found.append(_measure(PARTS[name].build(run), run, notes))
        yield from (*run.machine.found, *found[-1].events)
        run.machine.found.clear()
    yield Advised(run=run.facts(), notes=tuple(notes), **_advice(found, what, overlap=run.device.type == "cuda"))


class Found(NamedTuple):
    """What was measured of a part: its events, seconds an image by share of the run, settings that would help."""

    events: list[Measured]
    seconds: dict[str, float]
    options: list[Option]


def _measure(part: Part, run: Run, notes: list[str]) -> Found:
    """Time the calls of a part, in turns with the same work in plain code where that runs."""
    calls = dict(part.calls)
    if part.plain and run.machine.left():
        try:
            part.plain.call()
            calls[PLAIN] = part.plain
        except RuntimeError as error:
            notes.append(f"{part.against} does not run here: {shown(str(error).strip())}")
    rates = run.machine.alternate(calls)
    times = {call: 1 / median(values) for call, values in rates.items()}
    against = {"reference": 1 / times[PLAIN], "against": part.against} if PLAIN in times else {}
    reported = [call for call in part.bounds if call in rates]
    events = [measured(call, part.unit, rates[call], bounds=part.bounds[call], **against) for call in reported]
    return Found(events, part.seconds(times), part.options(times))


def _advice(found: list[Found], what: str, *, overlap: bool) -> dict[str, Any]:
    """Return fields of `Advised` for the whole run, or for the one part asked for."""
    seconds = {share: value for each in found for share, value in each.seconds.items()}
    events = {next(iter(each.seconds), ""): each.events[0] for each in found}
    if what == ALL and seconds.keys() != SHARES.keys() or not seconds:
        again = "Measure again when the machine is idle, or one part alone." if seconds else ""
        return {"bound": limit(found[0].events[0]), "advice": again}
    if what == ALL:
        seconds[NETWORK] = max(seconds[NETWORK] - seconds[LOSS], 0.0)  # the gradient was measured with the loss
    else:
        seconds = dict([*seconds.items()][:1])
    return advise(seconds, [option for each in found for option in each.options], events, overlap=overlap)
