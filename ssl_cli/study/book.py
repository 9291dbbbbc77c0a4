"""A study's file, `study.json`: what was asked for, the settings of every arm, and the result of every run so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt, TypeAdapter

from ssl_cli.config.sources import Settled, settle
from ssl_cli.config.toml_file import nest
from ssl_cli.errors import UsageError
from ssl_cli.planning import record
from ssl_cli.study.arm import LINEAR, PRETRAIN
from ssl_cli.study.budget import order
from ssl_cli.study.table import STUDIES, methods_of, require_arms, study_named

KIND = record.Kind("study", flags={"name": "NAME", "data": "DATA", "sets": "--set"})
FINISHED, PARTS = "finished", ("run", "data", "model")
MOST_SEEDS = 1000
SHARE = "machine"
"""The number of a run that is the share of the cores which other programs left to it, all of it being observed."""
FLAG_NAMES = {
    "data.source": "DATA", "data.download": "--download", "hardware.device": "--device", "hardware.memory": "--memory",
    "run.seed": "--seed",
}  # fmt: skip
FIXED: Mapping[str, Any] = {
    "run.evaluate": False, "run.monitor": False, "run.keep": 2,
}  # fmt: skip
"""Settings of all runs: the study measures them itself, on training images that are held out, and no test image."""
ABSENT: Mapping[str, Any] = dict.fromkeys(
    ("name", "data", "time", "seeds", "seed", "methods", "arms", "device", "download", "memory")
)
"""Flags of the command that `Asked` has too, none of them given."""
Seconds = Annotated[float, Field(gt=0, le=10**9)]
Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Asked:
    """What a study was asked for when it started, which holds for all of it.

    Attributes:
        name: of the study.
        data: the images; None: the embedded shapes.
        time: seconds of all runs.
        seeds: number of seeds.
        seed: the first one.
        methods: those of --methods.
        arms: those of --arms.
        device: where all runs train, as given.
        download: whether data may be downloaded.
        memory: bytes that every run may take, as given.
        sets: each --set, for all runs.
        env: the variables that are settings.
        project: text of ./sslcli.toml.
    """

    name: str
    data: str | None = None
    time: Seconds = 3600.0
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 3
    seed: NonNegativeInt = 0
    methods: str | None = None
    arms: str | None = None
    device: str | None = None
    download: bool | None = None
    memory: str | None = None
    sets: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    project: str = ""

    @property
    def all_seeds(self) -> list[int]:
        """Return `seeds` consecutive seeds, the first one being `seed`."""
        return list(range(self.seed, self.seed + self.seeds))

    def settled(self, method: str, more: Mapping[str, Any], folder: Path | None = None) -> Settled:
        """Return the settings of a run of a method, with more of them by dotted key, which come first.

        Args:
            method: its name.
            more: settings that the study gives.
            folder: where `sslcli.toml` is looked for; None: here.

        Raises:
            UsageError: as `settle`.
        """
        given = {"method.name": method, "data.source": self.data, "run.seed": self.seed, **FIXED}
        given |= {
            "hardware.device": self.device,
            "hardware.memory": self.memory,
            "data.download": self.download,
            **more,
        }
        names = {**dict.fromkeys(given, "the study"), **FLAG_NAMES}
        return settle(nest(given), self.sets, env=self.env, cwd=folder, flag_names=names)


@dataclass(frozen=True)
class Planned:
    """An arm as it will be run: its settings, whole and as nested tables, and what its plan expects.

    `differs` holds the settings that set it apart, by dotted key; `share`, `start` and `group` are those of the table.
    An arm that would not fit the memory is not `trained`: there is only what its plan expects.
    """

    name: str
    method: str
    settings: dict[str, Any]
    differs: dict[str, Any]
    share: Number = 1.0
    expected: dict[str, Number] = field(default_factory=dict)
    trained: bool = True
    start: str = ""
    group: str = ""

    @property
    def batch(self) -> int:
        """Return its images per step; 0: as its images suit."""
        return int(self.settings.get("run", {}).get("batch", 0))

    @property
    def command(self) -> str:
        """Return the command that runs it."""
        return self.method if self.start else PRETRAIN

    @property
    def place(self) -> str:
        """Return the arm in whose folders its runs are: another one's, if it measures that alone."""
        return self.start if self.command == LINEAR else self.name


@dataclass(frozen=True)
class About:
    """What all runs of a study share.

    Attributes:
        equal: `time` or `epochs`.
        unit: seconds, or epochs, of a run of an arm whose share is 1.
        images: to train on.
        network: backbone and width, in words.
        memory: bytes that a run may take.
        bank: images of the bank of kNN and the training set of the linear probe, at most.
        queries: held-out images, at most.
        device: where all runs train.
        seconds: that all runs are expected to take.
    """

    equal: str
    unit: Number
    images: PositiveInt
    network: str
    memory: PositiveInt
    bank: PositiveInt
    queries: PositiveInt
    device: str
    seconds: Number


@dataclass(frozen=True)
class Result:
    """What a run reached: its `state`, a reason where that is not finished, and numbers by name.

    Numbers are `classifier`, `knn`, `linear` (fractions), `consistency`, `rankme` without labels, `untrained`, `pixels`
    of the first arm, `queries`, `seconds`, `peak_memory`, `steps`, `epochs`, `rate`, `per_thousand`, seconds of 1,000
    images, and `machine`; unknown ones are absent.
    """

    arm: str
    seed: NonNegativeInt
    state: str
    reason: str = ""
    numbers: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Book:
    """All that a study's file holds."""

    asked: Asked
    about: About
    arms: tuple[Planned, ...]
    results: tuple[Result, ...] = ()

    def result(self, arm: str, seed: int) -> Result | None:
        """Return the result of a run, None where there is none yet."""
        return next((found for found in self.results if (found.arm, found.seed) == (arm, seed)), None)

    def with_result(self, result: Result) -> "Book":
        """Return the book with one more result."""
        return replace(self, results=(*self.results, result))

    def values(self, name: str) -> dict[str, dict[int, float]]:
        """Return a number of all runs that have it, by arm and seed, arms in the order of the table."""
        found: dict[str, dict[int, float]] = {arm.name: {} for arm in self.arms}
        for result in self.results:
            if name in result.numbers and result.arm in found:
                found[result.arm][result.seed] = result.numbers[name]
        return found

    @property
    def turns(self) -> list[tuple[str, int]]:
        """Return arm and seed of each run, in turns."""
        trained = [arm for arm in self.arms if arm.trained]
        return order([arm.name for arm in trained], self.asked.all_seeds, {arm.name: arm.start for arm in trained})

    def failed(self, arm: str) -> list[Result]:
        """Return the runs of an arm that ended without a result."""
        return [found for found in self.results if found.arm == arm and found.state != FINISHED]

    def arm(self, name: str) -> Planned:
        """Return an arm."""
        return next(arm for arm in self.arms if arm.name == name)


def opened(folder: Path, *, resume: bool) -> Book | None:
    """Return the study in a folder; None where the folder is empty or not there.

    Raises:
        UsageError: the folder holds something else, or a study and `resume` is not set.
        CheckpointError: its file is damaged.
        LockedError: another process uses it.
    """
    return read(folder) if record.is_recorded(folder, KIND, resume=resume) else None


def read(folder: Path) -> Book:
    """Read `study.json`.

    Raises:
        CheckpointError: it cannot be read, or has another format.
    """
    try:
        found = TypeAdapter(Book).validate_python(record.read(folder, KIND))
        if found.asked.name not in STUDIES or not found.arms:
            raise ValueError(f"it is of a study that this version does not know, {found.asked.name!r:.40}")
        if not all(
            isinstance(arm.settings.get(part, {} if arm.start else None), dict) for arm in found.arms for part in PARTS
        ):
            raise ValueError("the settings of an arm are incomplete")
        known = list[str]()
        for arm in found.arms:
            if arm.start and arm.start not in known:
                raise ValueError("an arm starts from none before it")
            known.append(arm.name)
        return replace(found, results=tuple(run for run in found.results if run.arm in {a.name for a in found.arms}))
    except (OSError, ValueError) as error:
        raise record.unreadable(folder, KIND, error) from error


def write(folder: Path, book: Book, warnings: Sequence[str] = ()) -> None:
    """Write `study.json` atomically, with what to warn of, for its readers; errors as `disk.write_atomic`."""
    record.write(folder, KIND, {**asdict(book), "warnings": list(warnings)})


def normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags as they are recorded: an absolute path, and seconds.

    Raises:
        UsageError: a time that cannot be read, several places, or a number of seeds that no study has.
    """
    found = dict(given)
    found["data"] = record.absolute(_one_place(given["data"]))
    if found["time"] is not None:
        found["time"] = record.seconds(found["time"])
        if not (0 < found["time"] <= 10**9):
            raise UsageError("--time: a study takes some time.", "Write it like 20m or 2h.")
    if found["seeds"] is not None and not 1 <= found["seeds"] <= MOST_SEEDS:
        raise UsageError(
            f"--seeds: 1 to {MOST_SEEDS:,} can be asked for.", "Three or more are needed to judge differences."
        )
    return found


def asked(given: Mapping[str, Any], cwd: Path | None = None) -> Asked:
    """Return what the flags of a new study ask for, with the settings of its surroundings.

    Raises:
        UsageError: there is no such study, or it takes no such methods.
    """
    env, project = record.surroundings(cwd)
    found = Asked(**{k: v for k, v in given.items() if v is not None}, env=env, project=project)
    study = study_named(found.name)
    require_arms(study, methods_of(study, found.methods), found.arms)
    return found


def require_same(before: Asked, given: Mapping[str, Any]) -> None:
    """Refuse flags that would change a study that is resumed; those that are not given are as before.

    Raises:
        UsageError: one differs.
    """
    record.require_same(before, given, KIND)


def _one_place(places: Sequence[str] | None) -> str | None:
    if places and (len(places) > 1 or places[0] == "-"):
        what = "A study takes one DATA, which it opens for every run."
        raise UsageError(what, "Give a folder, an archive, a list in a file, or the name of a data set.")
    return places[0] if places else None


def finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return those values that are finite numbers."""
    known = {k: v for k, v in numbers.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {name: value for name, value in known.items() if math.isfinite(value)}
