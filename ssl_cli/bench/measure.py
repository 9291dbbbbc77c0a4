"""Measure the parts of a run one after the other, within a time budget."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import psutil

from ssl_cli.bench.advice import LOSS, NETWORK, SHARES, Option, advise, limit
from ssl_cli.bench.machine import measured
from ssl_cli.bench.parts import PARTS, Part
from ssl_cli.bench.run import Run
from ssl_cli.config.tree import Settings
from ssl_cli.events import Advised, Event, Measured, Warned
from ssl_cli.names import shown

Found = tuple[list[Measured], dict[str, float], list[Option]]  # events of a part, seconds by share, settings
ALL, PLAIN, SECONDS, BUSY = "all", "plain", 60.0, 20.0  # time of a benchmark; percent of the processors in use


def bench(settings: Settings, what: str = ALL, seconds: float = SECONDS) -> Iterator[Event]:
    """Yield `Measured` for each limit of the machine and each part of the run, then `Advised`.

    The clock is read between repetitions and parts; parts for which no time is left are named in a note. The run is
    not compiled, unless `compile` asks for it. Raises an SslcliError for whatever would keep the run from starting.
    """
    deadline, busy = time.perf_counter() + seconds, psutil.cpu_percent(0.3)
    notes = [f"other programs use {busy:.0f} % of the processors"] if busy > BUSY else []
    hardware = settings.hardware.model_copy(update={"compile": settings.hardware.compile.replace("auto", "off")})
    run = Run(settings.model_copy(update={"hardware": hardware}), deadline)
    if len(run.batch) < run.asked:
        yield Warned(message=f"A step of {run.asked:,} images would take too long; {len(run.batch):,} were measured.")
    names, found = list(PARTS) if what == ALL else [what], list[Found]()
    for place, name in enumerate(names):
        if place and time.perf_counter() >= deadline:
            notes.append(f"left out, as {seconds:.0f} s were over: {', '.join(names[place:])}")
            break
        portion = PARTS[name][1] / sum(PARTS[other][1] for other in names[place:])
        run.machine.deadline = time.perf_counter() + portion * (deadline - time.perf_counter())
        found.append(_measure(PARTS[name][0](run), run, notes))
        yield from (*run.machine.found, *found[-1][0])
        run.machine.found.clear()
    yield Advised(run=run.facts(), notes=tuple(notes), **_advice(found, what, overlap=run.device.type == "cuda"))


def _measure(part: Part, run: Run, notes: list[str]) -> Found:
    """Time the calls of a part, in turns with the same work in plain code where that runs."""
    failed: list[RuntimeError] = []

    def plain() -> None:
        try:
            part.plain.call() if part.plain else None
        except RuntimeError as error:  # out of memory
            failed.append(error)

    rates = run.machine.alternate(part.calls | ({PLAIN: part.plain._replace(call=plain)} if part.plain else {}))
    if failed:
        rates.pop(PLAIN)
        notes.append(f"{part.against} does not run here: {shown(str(failed[0]).strip())}")
    times = {call: 1 / median(values) for call, values in rates.items()}
    against = {"reference": 1 / times[PLAIN], "against": part.against} if PLAIN in times else {}
    report = ((call, bounds) for call, bounds in part.bounds.items() if call in rates)
    events = [measured(call, part.unit, rates[call], bounds=bounds, **against) for call, bounds in report]
    return events, part.seconds(times), part.options(times)


def _advice(found: list[Found], what: str, *, overlap: bool) -> dict[str, Any]:
    """Return fields of `Advised` for the whole run, or for the one part asked for."""
    seconds = {share: value for _, part, _ in found for share, value in part.items()}
    events = {next(iter(part), ""): event for (event, *_), part, _ in found}
    if not seconds or (what == ALL and seconds.keys() != SHARES.keys()):
        return {"bound": limit(found[0][0][0]), "advice": "Measure the parts one by one." if seconds else ""}
    # the gradient was measured with the loss
    network = {NETWORK: max(seconds[NETWORK] - seconds[LOSS], 0.0)} if what == ALL else {}
    seconds = seconds | network if what == ALL else dict([*seconds.items()][:1])
    return advise(seconds, [option for *_, options in found for option in options], events, overlap=overlap)
