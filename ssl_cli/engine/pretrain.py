"""A pretraining run from its settings to its last event."""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import require_batch
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine import checkpoint, plan
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.devices import own_device
from ssl_cli.engine.evaluate import quality
from ssl_cli.engine.job import Job
from ssl_cli.engine.loop import train
from ssl_cli.engine.peer import describe, together
from ssl_cli.engine.resume import continued
from ssl_cli.engine.run_folder import RunFolder, default_path, refuse_unfit
from ssl_cli.engine.signals import stop_request
from ssl_cli.errors import DONE, INTERRUPTED, DataError, SslcliError, UsageError, understood
from ssl_cli.events import Choice, Event, Finished, Planned, Stopped, Warned
from ssl_cli.objective import Objective


def pretrain(settings: Settings, *, origins: Mapping[str, str], resume: bool, overwrite: bool) -> Iterator[Event]:
    """Train an encoder; the run folder keeps all that is yielded.

    Args:
        settings: the settled tree.
        origins: where each value came from; see `continued`.
        resume: continue the run in `run.out`, or start it where there is none.
        overwrite: replace the run in `run.out`.

    Raises:
        SslcliError: any error a user can cause; `status.json` has it too.
    """
    refuse_unfit(None if settings.run.out is None else Path(settings.run.out), resume=resume, overwrite=overwrite)
    out = Path(settings.run.out) if settings.run.out else default_path(settings.method.name)
    folder = RunFolder(out, resume=resume, overwrite=overwrite)
    try:
        last: Event | None = None
        if resume and not folder.settings_file.is_file():
            last = Warned(message=f"There is no run in {out} to resume yet: a new one starts.")
            folder.record(last)
            yield last
        with together(own_device(settings.hardware.device)):
            for last in _events(_with_absolute_paths(settings), origins, folder):
                folder.record(last)
                yield last
        if isinstance(last, Stopped):
            folder.write_status("stopped", last.exit_code, last.reason)
        else:
            folder.write_status("finished", DONE)
    except KeyboardInterrupt:
        folder.write_status("stopped", INTERRUPTED, "Ctrl-C")
        raise
    except Exception as error:
        ours = understood(error)
        folder.log(traceback.format_exc())
        with contextlib.suppress(SslcliError):  # a full disk may be what is wrong
            folder.write_status("failed", ours.code, ours.message)
        if settings.run.out is None and not folder.settings_file.is_file():
            folder.discard()  # nobody asked for this folder, and nothing was begun in it
        raise
    finally:
        folder.close()


def _events(settings: Settings, origins: Mapping[str, str], folder: RunFolder) -> Iterator[Event]:
    state: dict[str, Any] | None = None
    notes: list[str] = []
    if folder.settings_file.is_file():
        settings, notes = continued(settings, origins, folder)
        state, damaged = checkpoint.newest(folder.checkpoints)
        notes += [f"{sentence} The one before it is used." for sentence in damaged]
    job, planned, more = assemble(settings, folder, state)
    yield planned
    for note in (*notes, *more):
        yield Warned(message=note)
    finished: Finished | None = None
    try:
        with stop_request() as job.request:
            for event in train(job):
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
    except DataError:
        yield from job.skipped(job.start)  # too many files are bad: these are they
        raise
    if finished is not None:
        if settings.run.evaluate:
            yield from quality(job.objective, settings, plan.as_dict(job.resolved), step=finished.step)
        yield finished


def assemble(settings: Settings, folder: RunFolder, state: dict[str, Any] | None) -> tuple[Job, Planned, list[str]]:
    """The job, its plan, and what to warn of; the folder gets the settings and the plan.

    What was resolved before is taken as it is, from the checkpoint or, where none was written yet, from the plan.
    """
    earlier = folder.read_plan()
    kept = state["resolved"] if state else earlier.get("resolved")
    source = open_pretraining(settings.data, settings.run.seed)
    settings, notes = plan.capped(settings, len(source))
    device = own_device(kept["device"] if kept else settings.hardware.device)
    require_batch(source.name, len(source), settings.run.batch)
    objective = build_objective(settings, device, len(source))
    if kept is None:
        made = plan.make(settings, objective, plan.Data(len(source), source.name, source), folder.path)
        resolved, planned = made.resolved, Planned(choices=made.choices, expected=made.expected)
        notes += made.warnings
        folder.write_settings(settings)
        folder.write_plan(planned, plan.as_dict(resolved))
        folder.write_environment({"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)})
    else:
        resolved = plan.Resolved(**kept)
        steps = len(source) // settings.run.batch * settings.schedule.epochs
        _refuse_another(resolved, state, len(source), steps)
        planned = _resumed(settings, objective, source, state["step"] if state else 0, steps, earlier)
        folder.write_settings(settings)
        torch.set_num_threads(resolved.threads)  # how sums are split decides their last bits
    describe(settings, plan.as_dict(resolved), state)
    loader = build_loader(settings, objective, source, device, resolved.card_bytes)
    job = Job(settings, resolved, objective, loader, folder)
    if state is not None:
        job.restore(state)
    return job, planned, notes


def _resumed(
    settings: Settings, objective: Objective, source: Source, step: int, steps: int, earlier: Mapping[str, Any]
) -> Planned:
    """The plan of a run that goes on: its choices as they were, its time what is left at the pace planned."""
    expected = {**earlier.get("expected", {}), "steps": steps}
    if step == steps:
        expected = {"steps": steps}
    elif expected.get("rate"):
        expected["seconds"] = (steps - step) * settings.run.batch / expected["rate"]
    where = f"step {step:,}" if step else "its beginning"
    where += ", the last one: nothing is left to train" if step == steps else ""
    choices = (
        *plan.describe(settings, objective, len(source), source.name),
        Choice(name="resumed", value=f"from {where}", reason="every choice as it was"),
    )
    return Planned(choices=choices, expected=expected)


def _refuse_another(resolved: plan.Resolved, state: dict[str, Any] | None, images: int, steps: int) -> None:
    if images != resolved.images:
        raise DataError(
            f"This run was on {resolved.images:,} images, and now there are {images:,}.",
            "Restore the folder as it was, or start another run with another --out.",
        )
    if state and state["step"] > steps:
        raise UsageError(
            f"The run has taken {state['step']:,} steps, and these epochs have only {steps:,}.", "Pass more --epochs."
        )


def _with_absolute_paths(settings: Settings) -> Settings:
    """Data folders by their full path, so that the run can be evaluated and resumed from anywhere."""
    data = settings.data
    found = {
        name: str(Path(value).expanduser().absolute())
        for name in ("source", "test")
        if (value := getattr(data, name)) is not None and Path(value).expanduser().exists()
    }
    return settings.model_copy(update={"data": data.model_copy(update=found)})
