"""What bounds a run and which setting would help most: arithmetic on what was measured, no device and no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssl_cli.events import Measured

WORTHWHILE = 1.03
"""Times as fast, from which on a setting is worth a word."""
READING, AUGMENTATION, PASSES, LOSS, UPDATE = "reading", "augmentation", "passes", "loss", "optimiser"
WORK = (AUGMENTATION, PASSES, LOSS, UPDATE)
NAMES = {
    READING: "Reading",
    AUGMENTATION: "Augmentation",
    PASSES: "Passes through the network",
    LOSS: "The loss",
    UPDATE: "The optimiser",
}
LAST_RESORT = {
    READING: "images shrunk on the disk to what is kept of them, or a faster disk",
    AUGMENTATION: "fewer operations in augment.order or a smaller --image-size, which change the run",
    PASSES: "a smaller --image-size, --width or --backbone, which change the run",
    LOSS: "a smaller --batch or queue, which change the run",
    UPDATE: "a larger --batch, which changes the run",
}
"""What is left to change of each part where no setting of the machine would help."""


@dataclass(frozen=True)
class Option:
    """A setting that would make a part of the run faster.

    Attributes:
        setting: what to type.
        part: what it makes faster.
        factor: that part's time with it, as a share of now.
        why: where the factor comes from.
    """

    setting: str
    part: str
    factor: float
    why: str


@dataclass(frozen=True)
class Times:
    """Where the time of an image goes in a run.

    Attributes:
        seconds: by part, all of them; reading's are an average over the run, in which images may stay in memory.
        beside: whether reading goes on beside the rest, as with a card, and counts only as far as it takes longer.
    """

    seconds: Mapping[str, float]
    beside: bool

    @property
    def spent(self) -> dict[str, float]:
        """Seconds that each part adds to an image's time, the largest first."""
        working = sum(self.seconds[part] for part in WORK)
        reading = self.seconds[READING]
        told = {READING: max(reading - working, 0.0) if self.beside else reading}
        told |= {part: self.seconds[part] for part in WORK}
        return dict(sorted(told.items(), key=lambda item: -item[1]))

    @property
    def total(self) -> float:
        """Seconds of an image."""
        return sum(self.spent.values())

    @property
    def shares(self) -> dict[str, float]:
        """Of the total, the largest first."""
        return {part: seconds / self.total for part, seconds in self.spent.items()}

    def gain(self, option: Option) -> float:
        """How many times as fast the run would be."""
        changed = {**self.seconds, option.part: self.seconds[option.part] * option.factor}
        return self.total / Times(changed, self.beside).total


@dataclass(frozen=True)
class Verdict:
    """Two sentences, and the setting that the second names."""

    bound: str
    advice: str
    setting: str = ""
    gain: float | None = None


def of_run(times: Times, options: Sequence[Option], measured: Mapping[str, Measured]) -> Verdict:
    """What bounds the whole run, and what would help most; what was measured, by the part it is of."""
    largest, share = next(iter(times.shares.items()))
    takes = "take" if largest == PASSES else "takes"
    opening = f"{NAMES[largest]} {takes} {_percent(share)} of the time"
    bound = "; ".join(filter(None, (opening, reached(measured.get(largest)).rstrip("."))))
    return _verdict(f"{bound}.", largest, times, options)


def of_part(part: str, options: Sequence[Option], measured: Mapping[str, Measured]) -> Verdict:
    """The same of a part that was measured alone; gains are the part's own."""
    alone = Times({name: float(name == part) for name in (READING, *WORK)}, beside=False)
    own = [option for option in options if option.part == part]
    return _verdict(reached(measured.get(part)), part, alone, own)


def reached(found: Measured | None) -> str:
    """How near its nearest ceiling a part is."""
    if found is None or found.share is None:
        return ""
    kind, _, precision = found.bound.partition(" ")
    ceiling = {"memory": "the memory bandwidth", "decode": "decoding alone"}.get(kind, f"{precision} matrix products")
    return f"{found.name} reaches {_percent(found.share)} of what {ceiling} would allow."


def _verdict(bound: str, largest: str, times: Times, options: Sequence[Option]) -> Verdict:
    best = max(options, key=times.gain, default=None)
    if best is not None and (gain := times.gain(best)) >= WORTHWHILE:
        advice = f"{best.setting} would help most: about {gain:.2f} times as fast ({best.why})."
        return Verdict(bound, advice, best.setting, gain)
    tried = f"None of {', '.join(option.setting for option in options)} would gain 3 %; what" if options else "What"
    return Verdict(bound, f"{tried} is left is {LAST_RESORT[largest]}.")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
