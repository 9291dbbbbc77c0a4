"""What a running command tells the world: frozen events, and their JSON form for `metrics.jsonl`."""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
COLLAPSED = 0.1
"""A `spread` of z below this, where 1 is the whole sphere, is a collapse if it lasts."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at `step`, `time` seconds after the epoch."""

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
    """The run as it will be: each resolved choice with its reason, and numbers to hold against the facts at its end.

    `expected` may have `steps`, `images`, `parameters`, `negatives` (per anchor), `rate` (images per second),
    `seconds` (of what is left to train), `peak_memory`, `checkpoint` and `disk_free` (bytes).
    """

    choices: tuple[Choice, ...]
    expected: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """Training begins, or goes on from `step` when it was resumed; the rate rises in the first `warmup` steps."""

    out: str
    steps: int
    warmup: int = 0
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """Numbers of one optimiser step.

    `chance` is the loss of an encoder that tells nothing apart; `rate` is images per second and `data_wait` the share
    of time spent waiting for data since the last such event; `memory` is bytes in use; `grad_norm` the length of the
    whole gradient; `numbers` are the method's own observations and the health of its z: see `engine/health.py`.
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


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """A quality measurement, e.g. `knn` with `result` {"top1": 0.81, ...}; accuracies are fractions.

    While training goes on they are named `online_knn`.
    """

    name: str
    result: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something the user should know, and what to do about it; `about` is a word for programs, such as `collapse`."""

    message: str
    hint: str = ""
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Skipped(Event):
    """A file that could not be read; another image took its place."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint of `size` bytes is on disk."""

    path: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """Training ended before its last step, with this exit code."""

    exit_code: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """Training reached its last step after `seconds` of this process, in which it took `rate` images per second."""

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
    """Pictures side by side under a name, for the eye alone."""

    name: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Measured(Event):
    """A rate in `unit`: the median of `n` measurements, and their quartiles `low` and `high`.

    Either of the `machine`, or of a part of the user's run. Of a part, `bounds` are the rates that each ceiling of the
    machine would allow if it alone counted, and `reference` is the rate of plain code, measured in turns with it and
    told by `against`.
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
        """The ceiling that is nearest; nothing where none is known."""
        return min(self.bounds, key=self.bounds.__getitem__, default="")

    @property
    def share(self) -> float | None:
        """What is reached of the nearest ceiling."""
        return self.rate / self.bounds[self.bound] if self.bounds else None


@dataclass(frozen=True, kw_only=True)
class Advised(Event):
    """What measurements come to.

    `run` tells what was measured; `shares` of an image's time go to its parts, the largest first, at `rate` images per
    second together; `bound` says what bounds them, `advice` what would help most, and by how much: `gain` times as fast
    with `setting`, where there is one; `notes` are to be known of the measurements.
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
    """The event as a JSON-ready mapping: `schema`, `event` and its fields."""
    fields = {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    return {"schema": SCHEMA, "event": type(event).__name__.lower(), **fields}


def _plain(value: Any) -> Any:
    """JSON's own types; numbers that are not finite, which JSON lacks, are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)} if _is_record(value) else value


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
