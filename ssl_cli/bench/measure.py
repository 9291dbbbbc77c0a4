"""The benchmark: parts of the user's run measured one after the other, then what they come to."""

from collections.abc import Iterator, Mapping

from ssl_cli.bench import advice
from ssl_cli.bench.advice import AUGMENTATION, LOSS, PASSES, READING, WORK, Times, Verdict
from ssl_cli.bench.ceilings import busy_elsewhere
from ssl_cli.bench.part import Part
from ssl_cli.bench.subject import Subject, assembled
from ssl_cli.config.tree import Settings
from ssl_cli.events import Advised, Event, Warned
from ssl_cli.registry import BENCHES, load
from ssl_cli.world import processors

ALL = "all"
BUSY = 0.2
"""Share of the processors that others may use before it is said."""
PART_OF = {"augment": AUGMENTATION, "loss": LOSS, "loader": READING, "step": PASSES}


def bench(settings: Settings, what: str = ALL) -> Iterator[Event]:
    """`Measured` for each ceiling and part as they are found, then `Advised`.

    Args:
        settings: of the run to measure.
        what: one of `registry.BENCHES`, or all of them.

    Raises:
        SslcliError: whatever would keep the run from starting.
    """
    yield from _busy()
    # labels, disks and log lines are no part of what is measured
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"monitor": False, "out": None})})
    with assembled(settings) as subject:
        yield from _smaller(subject)
        found: dict[str, Part] = {}
        for name in BENCHES if what == ALL else [what]:
            part: Part = load(BENCHES[name])(subject)
            found[name] = part
            yield from subject.ceilings.told()
            yield from part.measured
        yield _advised(subject, found)


def _busy() -> Iterator[Warned]:
    others = busy_elsewhere()
    if others > BUSY * processors():
        yield Warned(
            message=f"Other programs keep {others:.1f} of {processors()} processors busy: the figures are of what they "
            "leave.",
            hint="Measure again when they are done.",
        )


def _smaller(subject: Subject) -> Iterator[Warned]:
    batch = subject.settings.run.batch
    if batch < subject.asked:
        yield Warned(
            message=f"A step of {subject.asked:,} images would take too long here; {batch:,} were measured. "
            "Passes cost the same an image, the loss costs less."
        )


def _advised(subject: Subject, found: Mapping[str, Part]) -> Advised:
    """What all parts come to, or one part alone."""
    seconds = {name: value for part in found.values() for name, value in part.seconds.items()}
    measured = {PART_OF[name]: part.measured[0] for name, part in found.items() if name in PART_OF}
    options = [option for part in found.values() for option in part.options]
    notes = tuple(note for part in found.values() for note in part.notes)
    if set(found) == set(BENCHES):
        times = times_of(seconds, beside=subject.device.type == "cuda")
        verdict = advice.of_run(times, options, measured)
        return _event(subject, verdict, times, notes)
    (name,) = found
    if name not in PART_OF:
        return Advised(run=subject.facts(), bound=advice.reached(found[name].measured[0]), notes=notes)
    return _event(subject, advice.of_part(PART_OF[name], options, measured), None, notes)


def times_of(seconds: Mapping[str, float], *, beside: bool) -> Times:
    """Where an image's time goes; the loss is a part of the gradient that was measured with the passes."""
    passes = max(seconds[PASSES] - seconds[LOSS], 0.0)
    return Times({name: seconds[name] for name in (READING, *WORK)} | {PASSES: passes}, beside)


def _event(subject: Subject, verdict: Verdict, times: Times | None, notes: tuple[str, ...]) -> Advised:
    return Advised(
        run=subject.facts(),
        shares=times.shares if times else {},
        rate=1 / times.total if times else None,
        bound=verdict.bound,
        advice=verdict.advice,
        setting=verdict.setting,
        gain=verdict.gain,
        notes=notes,
    )
