"""The stages of a pipeline: what each is, its part of the time, and the file that the pipeline resumes by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from ssl_cli import disk
from ssl_cli.config.flags import places
from ssl_cli.config.labels import fingerprint, parse_labels
from ssl_cli.config.sources import Settled, settle
from ssl_cli.config.start import Request, settle_resumed
from ssl_cli.config.toml_file import PROJECT_FILE
from ssl_cli.config.units import format_time
from ssl_cli.data.places import require_data
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.planning import record

KIND = record.Kind("pipeline", flags={"data": "DATA", "sets": "--set"})
FILE = KIND.file
LEAST = 60.0
"""Seconds of the shortest pipeline: each stage looks at the machine before it trains."""
VIEWS = 2


@dataclass(frozen=True)
class Stage:
    """One of the stages, in a folder of its name; `share` is its part of a pipeline's time, `row` its name in a table.

    `command` is the one that does the same by hand.
    """

    name: str
    command: str
    row: str
    share: float
    what: str


STAGES = (
    Stage("pretrain", "pretrain", "pretraining", 0.5, "an encoder, without labels"),
    Stage("linear", "linear-eval", "linear", 0.05, "a linear classifier on the frozen encoder, from the labels"),
    Stage(
        "scratch", "finetune", "from scratch", 0.15, "the encoder's network from random weights, on the labels alone"
    ),
    Stage("finetune", "finetune", "fine-tuned", 0.15, "a classifier from the encoder, all of it trained on the labels"),
    Stage("distill", "distill", "distilled", 0.15, "a student of that classifier, on all images without labels"),
)
PRETRAIN, LINEAR, SCRATCH, FINETUNE, DISTILL = STAGES
FLAG_NAMES = {
    "data.source": "DATA", "data.test": "--test-data", "data.labels": "--labels", "data.download": "--download",
    "method.name": "--method", "run.time": "--time", "schedule.epochs": "--time", "run.seed": "--seed",
    "run.out": "--out", "hardware.device": "--device", "model.backbone": "--student", "model.width": "--width",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a pipeline was asked for when it started, which holds for all of it.

    Attributes:
        labels: as of `sslcli finetune`.
        labels_sha256: of the file of labels, if it is one.
        data: images, one place or several; None: the embedded shapes.
        test_data: folder of test images.
        method: of pretraining.
        time: seconds of all stages; None: each takes its default.
        student: network of the student; None: the teacher's.
        width: of the student; None: the teacher's, and half of it where `student` is None, too.
        seed: of all stages.
        sets: each --set, of pretraining.
        env: the variables that are settings.
        project: text of ./sslcli.toml.
    """

    labels: str
    labels_sha256: str | None = None
    data: str | tuple[str, ...] | None = None
    test_data: str | None = None
    method: str | None = None
    time: Annotated[float, Field(ge=LEAST, le=10**9)] | None = None
    student: str | None = None
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    seed: int | None = None
    sets: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    project: str = ""

    def seconds(self, stage: Stage) -> float | None:
        """Return the time of a stage: its share of that of the pipeline; None: its default."""
        return None if self.time is None else stage.share * self.time

    def flags(self, stage: Stage, more: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return a stage's settings as nested tables, with `more` of them."""
        tables: dict[str, dict[str, Any]] = {"data": {}, "method": {}, "model": {}, "run": {}}
        if stage is PRETRAIN:
            tables["data"] = {"source": self.data, "test": self.test_data}
            tables["method"]["name"] = self.method
            tables["run"] = {"seed": self.seed, "time": self.seconds(stage)}
        elif stage is DISTILL:
            tables["model"] = {"backbone": self.student, "width": self.width}
            tables["run"]["time"] = self.seconds(stage)
        else:
            tables["data"]["labels"] = self.labels
            tables["method"]["scratch"] = True if stage is SCRATCH else None
        return {name: {**tables.get(name, {}), **more.get(name, {})} for name in {**tables, **more}}


def asked(given: Mapping[str, Any], cwd: Path | None = None) -> Asked:
    """Return what the flags of a new pipeline ask for, with the settings of its surroundings.

    Raises:
        UsageError: there are no labels among them.
    """
    if given.get("labels") is None:
        what = "pipeline needs to know how many images are labelled."
        raise UsageError(what, "Pass --labels 10%, 4-per-class, or a FILE that lists them.")
    env, project = record.surroundings(cwd)
    return Asked(**{**given, "labels_sha256": fingerprint(given["labels"]), "env": env, "project": project})


def normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags as they are recorded: absolute paths, and seconds; DATA is a list of places.

    Raises:
        UsageError: labels or a time that cannot be read, or a time that is too short.
    """
    found = dict(given)
    found["data"] = places([str(record.absolute(place)) for place in given["data"] or ()])
    found["test_data"] = record.absolute(given["test_data"])
    if found["labels"] is not None and (file := parse_labels(found["labels"]).file):
        found["labels"] = str(file.absolute())
    if found["time"] is not None:
        found["time"] = record.seconds(found["time"])
        if found["time"] < LEAST:
            what = f"--time {shown(str(given['time']))} is too short for {len(STAGES)} stages."
            hint = f"Pass {format_time(LEAST)} or more; without --time each stage takes its default."
            raise UsageError(what, hint)
    return found


def settle_pretraining(
    asked: Asked, folder: Path | None = None, more: Mapping[str, Mapping[str, Any]] | None = None
) -> Settled:
    """Return the settings of the first stage; `folder` is the pipeline's, None before there is one.

    Raises:
        UsageError: as `settle`.
    """
    return settle(asked.flags(PRETRAIN, more or {}), asked.sets, env=asked.env, cwd=folder, flag_names=FLAG_NAMES)


def check(asked: Asked) -> None:
    """Refuse settings and images that a stage would refuse, before anything trains.

    Raises:
        UsageError: a flag, ./sslcli.toml or the environment gives a setting that is not valid.
        DataError: no such images.
    """
    require_data(settle_pretraining(asked).settings.data)
    for stage in (FINETUNE, DISTILL):
        flags = asked.flags(stage, {})
        settle_resumed(Request(stage.command, None, flags, flag_names=FLAG_NAMES, env=asked.env))


def opened(folder: Path, *, resume: bool, overwrite: bool) -> Asked | None:
    """Return what the pipeline in a folder was asked for; None where the folder is empty or not there.

    Raises:
        UsageError: the folder holds something else, or a pipeline and neither flag is set.
        CheckpointError: its file is damaged.
        LockedError: another process uses it.
    """
    if not record.is_recorded(folder, KIND, resume=resume, overwrite=overwrite):
        return None
    return read(folder)


def read(folder: Path) -> Asked:
    """Read `pipeline.json`.

    Raises:
        CheckpointError: it cannot be read, or has another format.
    """
    try:
        return TypeAdapter(Asked).validate_python(record.read(folder, KIND).get("asked"))
    except (OSError, ValueError) as error:
        raise record.unreadable(folder, KIND, error) from error


def write(folder: Path, asked: Asked) -> None:
    """Write `pipeline.json`, and the file of settings that stages read; errors as `disk.write_atomic`."""
    record.write(folder, KIND, {"asked": asdict(asked)})
    if asked.project:
        disk.write_bytes(folder / PROJECT_FILE, asked.project.encode())


def require_same(before: Asked, given: Mapping[str, Any]) -> None:
    """Refuse flags that would change a pipeline that is resumed; those that are not given are as before.

    Raises:
        UsageError: one differs.
    """
    record.require_same(before, given, KIND)
    if before.method is not None and ":" in before.method and given.get("method") is None:
        what = f"This pipeline was made with {shown(before.method)}, code of your own."
        raise UsageError(what, f"Add --method {shown(before.method)} to run it.")


def epochs_within(seconds: float | None, rate: float | None, images: float | None, epochs: float) -> float:
    """Return the epochs of a stage on labels: its recipe's, or as many whole ones as `seconds` allow, one at least.

    Args:
        seconds: of the stage; None: as many as it needs.
        rate: images per second of pretraining, whose images have two views each, and here one.
        images: that are labelled.
        epochs: of the recipe.
    """
    if seconds is None or not rate or not images:
        return epochs
    return min(epochs, max(int(seconds * VIEWS * rate / images), 1))
