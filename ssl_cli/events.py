"""Events that commands yield, frozen dataclasses, and their JSON form for `metrics.jsonl`."""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
BOTTLENECK = 0.1
"""Share of the time from which on it is named what it is spent on, other than the network."""
COLLAPSED = 0.1
"""A `spread` of z that stays below this is a collapse; 1 is uniform on the sphere."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events: at optimiser step `step`, `time` in seconds since 1970."""

    step: int = 0
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One resolved choice of a plan and the reason for it."""

    name: str
    value: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """The plan of a run: each resolved choice with its reason, and estimates that are compared with measured numbers.

    `expected` may have `steps`, `images`, `parameters`, `negatives` (per anchor), `rate` (images per second),
    `seconds` (of the remaining steps), `peak_memory`, `checkpoint` and `disk_free` (bytes).
    """

    choices: tuple[Choice, ...]
    expected: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """Training starts, or continues from `step` if `resumed`; the learning rate rises in the first `warmup` steps.

    `done` is the fraction of the time of the run's steps that those taken are expected to take; `seconds` is the time
    that earlier processes trained.
    """

    out: str
    steps: int
    warmup: int = 0
    resumed: bool = False
    done: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What a run of `seconds` would be on a machine: network, views of `size` pixels, batch and epochs.

    `chosen` marks the run that is planned; the others are estimates.
    """

    machine: str
    seconds: float
    network: str
    size: int
    batch: int
    epochs: float
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Sized(Event):
    """What other times and machines would give, for a plan without training."""

    rows: tuple[Sizing, ...]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Event):
    """The steps of the run are `steps` instead of `before`, as those measured took `step_seconds` each.

    It happens at most twice a run. They are `epochs`; the learning rate rises in the first `warmup` of the steps.
    """

    steps: int
    before: int
    epochs: float
    step_seconds: float
    message: str
    warmup: int = 0


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """Metrics of one optimiser step.

    `chance` is the loss of an encoder that gives every image the same embedding; `rate` is images per second and
    `data_wait` the fraction of time spent waiting for data since the last such event; `memory` is bytes in use;
    `grad_norm` the norm of the whole gradient; `numbers` are the method's own and those of z's geometry; `waits` are
    the fractions of time spent on `disk` and `decode`, as far as a step waits for them, and on `augmentation`; `done`
    is the fraction of the time of the run's steps that those taken are expected to take, 0 in records without it.
    """

    epoch: float
    loss: float
    chance: float | None
    lr: float
    rate: float
    step_seconds: float
    data_wait: float
    memory: int
    grad_norm: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    waits: Mapping[str, float] = field(default_factory=dict)
    done: float = 0.0

    @property
    def bottleneck(self) -> str:
        """Return what steps wait for, `disk` or `decode`; empty where they wait for hardly anything."""
        if self.data_wait <= BOTTLENECK or not self.waits:
            return ""
        return max(("disk", "decode"), key=lambda name: self.waits.get(name, 0.0))

    @property
    def slow_views(self) -> float:
        """Return the fraction of time spent on making views where that is above `BOTTLENECK`, else 0."""
        share = self.waits.get("augmentation", 0.0)
        return share if share > BOTTLENECK else 0.0


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """A result, e.g. `knn` with `result` {"top1": 0.81, ...}, in training `online_knn`; accuracies are fractions."""

    name: str
    result: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Encoded(Event):
    """So many of the images to encode have their vectors."""

    done: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """A warning and what to do about it; `about` is a key for programs, such as `collapse`."""

    message: str
    hint: str = ""
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Skipped(Event):
    """A file that could not be read; another image replaces it."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint of `size` bytes is on disk."""

    path: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """Training ended before its last step, with this exit code; `state` is one of `status.STATES` or `died`."""

    exit_code: int
    reason: str
    state: str = "stopped"


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """Training reached its last step, after `seconds` in this process at `rate` images per second."""

    steps: int
    seconds: float
    peak_memory: int
    rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture, `rgb` its `height` x `width` x 3 bytes; a title stands above it, a caption below."""

    title: str
    width: int
    height: int
    rgb: bytes
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Pictured(Event):
    """Pictures in a row under a name, for the display only."""

    name: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Measured(Event):
    """A rate in `unit`: the median of `n` measurements, and their quartiles `low` and `high`.

    Either of the `machine`, or of a part of the user's run. For a part, `bounds` are the rates that each limit of the
    machine alone would allow, and `reference` is the rate of the plain code that `against` names, measured in turns.
    """

    name: str
    unit: str
    rate: float
    low: float
    high: float
    n: int
    machine: bool = False
    bounds: Mapping[str, float] = field(default_factory=dict)
    reference: float | None = None
    against: str = ""

    @property
    def bound(self) -> str:
        """The limit that allows the lowest rate; empty where none is known."""
        return min(self.bounds, key=self.bounds.__getitem__, default="")

    @property
    def share(self) -> float | None:
        """The rate as a fraction of that limit."""
        return self.rate / self.bounds[self.bound] if self.bounds else None


@dataclass(frozen=True, kw_only=True)
class Advised(Event):
    """The conclusion from all measurements.

    `run` names what was measured; `shares` are the fractions of an image's time by part, the largest first, at `rate`
    images per second in all; `bound` states the bottleneck, `advice` what would help most: `gain` times as fast with
    `setting`, where there is one; `notes` qualify the measurements.
    """

    run: Mapping[str, Any]
    shares: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None
    bound: str = ""
    advice: str = ""
    setting: str = ""
    gain: float | None = None
    notes: tuple[str, ...] = ()


def record(event: Event) -> dict[str, Any]:
    """Convert the event to a JSON-ready mapping: `schema`, `event` and its fields."""
    fields = {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    return {"schema": SCHEMA, "event": type(event).__name__.lower(), **fields}


def from_record(found: Mapping[str, Any]) -> Event | None:
    """Convert what `record` made back to its event; None: it is none, or has other fields."""
    from pydantic import TypeAdapter, ValidationError  # late: it takes a while to be imported

    kind = next((kind for kind in Event.__subclasses__() if kind.__name__.lower() == found.get("event")), None)
    if kind is None:
        return None
    numbers = {name: math.nan for name in NUMBERS if name in found and found[name] is None}  # JSON has no NaN
    try:
        return TypeAdapter(kind).validate_python({**found, **numbers})
    except (ValidationError, RecursionError):
        return None


NUMBERS = ("loss", "lr", "rate", "step_seconds", "data_wait")
"""Fields of `Stepped` that are numbers, also where they are not finite."""


def _plain(value: Any) -> Any:
    """Convert to JSON's types; numbers that are not finite, which JSON lacks, become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)} if _is_record(value) else value


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
