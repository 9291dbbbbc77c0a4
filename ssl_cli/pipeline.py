"""Run the stages of a pipeline, each as its own command would: in a run folder of its own, which resumes by itself."""

import gc
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_cli import checkpoint, disk, records
from ssl_cli.config.labels import require_unchanged
from ssl_cli.config.resume import settings_of
from ssl_cli.config.sources import Settled
from ssl_cli.config.start import Request, settle_resumed
from ssl_cli.config.toml_file import PROJECT_FILE
from ssl_cli.config.units import format_epochs
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.events import SCHEMA, Evaluated, Event, Warned
from ssl_cli.planning.reached import LINEAR_FILE, has_run, stage_result, timed
from ssl_cli.planning.stages import (
    DISTILL,
    FINETUNE,
    FLAG_NAMES,
    LINEAR,
    PRETRAIN,
    SCRATCH,
    STAGES,
    Asked,
    Stage,
    epochs_within,
    settle_pretraining,
)
from ssl_cli.protocols.linear import linear_eval
from ssl_cli.registry import is_library_backbone
from ssl_cli.transfer import start

SMALLER = 0.5
"""Width of a student whose network is not named, in that of its teacher."""


@dataclass(frozen=True)
class Images:
    """The images that stages learn from by their labels, and those that they are tested on."""

    labelled: int
    classes: int
    test: int


def check(asked: Asked) -> Images:
    """Count the labelled images, before anything trains.

    Raises:
        DataError: there are no labels, a class has too few images, or there is one class.
    """
    settings = settle_pretraining(asked).settings
    data = settings.data.model_copy(update={"labels": asked.labels})
    training, test = start.open_labelled(settings.model_copy(update={"data": data}))
    return Images(int((training.labels >= 0).sum()), len(training.classes), len(test))


def clear(folder: Path) -> None:
    """Delete the runs of a pipeline, and nothing else in their folders."""
    for stage in STAGES:
        if has_run(folder / stage.name):
            run = RunFolder(folder / stage.name, overwrite=True)
            run.discard()
            run.close()
    for name in (LINEAR_FILE, PROJECT_FILE):
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline in a folder.

    Attributes:
        folder: of all its stages.
        asked: what for.
        device: where to compute, as given.
        download: whether data may be downloaded, as given.
        machine: settings of this machine by dotted key, as given or in the user's own file, for evaluation.
    """

    folder: Path
    asked: Asked
    device: str | None = None
    download: bool | None = None
    machine: Mapping[str, Any] | None = None

    def events(self, stage: Stage) -> Generator[Event, None, None]:
        """Run a stage, or what is left of it, and yield its events.

        Raises:
            SslcliError: as its command would.
        """
        require_unchanged(self.asked.labels, self.asked.labels_sha256)
        gc.collect()  # what the stage before left in memory would count as in use
        if stage is LINEAR:
            yield from self._linear()
            return
        settled, resume = self._settled(stage), has_run(self.folder / stage.name)
        if stage in (SCRATCH, FINETUNE) and not (self.folder / stage.name / "settings.toml").exists():
            settled, note = self._in_time(settled)
            yield from (Warned(message=message) for message in note)
        with closing(pretrain(settled.settings, origins=settled.origins, resume=resume, overwrite=False)) as events:
            yield from events

    def _settled(self, stage: Stage) -> Settled:
        out = self.folder / stage.name
        more: dict[str, dict[str, Any]] = {"run": {"out": str(out)}, "hardware": {"device": self.device}}
        more["data"] = {"download": self.download}
        if stage is PRETRAIN:
            return settle_pretraining(self.asked, self.folder, more)
        if (out / "settings.toml").exists():  # what it was asked for is in its folder
            return settle_resumed(Request(stage.command, None, more, env=self.asked.env, cwd=self.folder))
        flags, before = self.asked.flags(stage, more), PRETRAIN if stage is not DISTILL else FINETUNE
        request = Request(
            stage.command, str(self.folder / before.name), flags, flag_names=FLAG_NAMES, env=self.asked.env,
            cwd=self.folder,
        )  # fmt: skip
        if stage is DISTILL:
            flags["model"]["width"] = self._student_width(Path(str(request.run)))
        return start.settle_start(request)

    def _in_time(self, settled: Settled) -> tuple[Settled, list[str]]:
        """Return the settings of a stage on labels with as many epochs at most as its time allows, and a note."""
        schedule, labelled = settled.settings.schedule, stage_result(self.folder, LINEAR).get("train")
        rate = timed(records.events(self.folder / PRETRAIN.name))[1]
        epochs = epochs_within(self.asked.seconds(SCRATCH), rate, labelled, schedule.epochs)
        if epochs == schedule.epochs:
            return settled, []
        update = {"schedule": schedule.model_copy(update={"epochs": epochs})}
        note = (
            f"The stage's time allows {format_epochs(epochs)} of the recipe's {format_epochs(schedule.epochs)} epochs."
        )
        return replace(settled, settings=settled.settings.model_copy(update=update)), [note]

    def _student_width(self, teacher: Path) -> float | None:
        """Return the width that is asked for, or where no network is named half of the teacher's, if it has one."""
        if self.asked.width is not None or self.asked.student is not None:
            return self.asked.width
        model = settings_of(checkpoint.load(*checkpoint.locate(str(teacher)))["settings"]).model
        return None if is_library_backbone(model.backbone) else SMALLER * model.width

    def _linear(self) -> Iterator[Event]:
        """Fit the linear probe; write its result to the pipeline's folder, whatever is evaluated later."""
        began, machine = time.monotonic(), dict(self.machine or {})
        device = machine.pop("hardware.device", "auto")
        words = {key.removeprefix("data."): value for key, value in machine.items()}
        run, labels, method = str(self.folder / PRETRAIN.name), self.asked.labels, self.asked.method
        for event in linear_eval(run, labels=labels, device=device, method=method, machine=words):
            if isinstance(event, Evaluated):
                result = {**event.result, "seconds": time.monotonic() - began}
                disk.write_json(self.folder / LINEAR_FILE, {"schema": SCHEMA, "result": result})
            yield event
