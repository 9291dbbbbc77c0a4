"""A pretraining run from its settings to its last event."""

import contextlib
import traceback
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import require_batch
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.devices import own_device
from ssl_cli.engine.evaluation.evaluate import quality
from ssl_cli.engine.job import Job
from ssl_cli.engine.plan import plan, shortage
from ssl_cli.engine.plan.budget import step_groups
from ssl_cli.engine.run import checkpoint
from ssl_cli.engine.run.folder import RunFolder, default_path, refuse_unfit
from ssl_cli.engine.run.resume import continued
from ssl_cli.engine.run.signals import StopRequest, exit_code, received, stop_request
from ssl_cli.engine.train import train
from ssl_cli.engine.workers.worker import broadcast_run, process_group
from ssl_cli.errors import DONE, STOPPED, DataError, Interrupted, SslcliError, UsageError, convert_exception
from ssl_cli.events import Choice, Event, Finished, Planned, Started, Stopped, Warned
from ssl_cli.objective import Objective


def pretrain(
    settings: Settings, *, origins: Mapping[str, str], resume: bool, overwrite: bool
) -> Generator[Event, None, None]:
    """Train an encoder; the run folder keeps all that is yielded.

    Args:
        settings: the settled tree.
        origins: where each value came from; see `continued`.
        resume: continue the run in `run.out`, or start it where there is none.
        overwrite: replace the run in `run.out`.

    Raises:
        SslcliError: any error a user can cause; `status.json` has it too.
        Interrupted: a signal came when no step was under way, or a second Ctrl-C.
    """
    refuse_unfit(None if settings.run.out is None else Path(settings.run.out), resume=resume, overwrite=overwrite)
    out = Path(settings.run.out) if settings.run.out else default_path(settings.method.name)
    with stop_request() as request:
        with request.noted():  # an interrupt might leave a folder that says it is running
            folder = RunFolder(out, resume=resume, overwrite=overwrite)
        last: Event | None = None
        begun = False
        try:
            request.obey()
            if resume and not folder.settings_file.is_file():
                last = Warned(message=f"There is no run in {out} to resume yet: a new one starts.")
                folder.record(last)
                yield last
            with process_group(own_device(settings.hardware.device), request):
                for last in _events(_with_absolute_paths(settings), origins, folder, request):
                    begun |= isinstance(last, Started)
                    folder.record(last)
                    yield last
            if isinstance(last, Stopped):
                folder.write_status("stopped", last.exit_code, last.reason)
            else:
                folder.write_status("finished", DONE)
        except Exception as error:
            _failed(folder, error, settings, begun=begun)
            raise
        except Interrupted as stop:
            folder.write_status("stopped", stop.code, stop.reason)
            raise
        except BaseException:  # whoever reads the events has left, or was interrupted
            number = request.signal
            code, why = (exit_code(number), received(number)) if number else (STOPPED, "it was left")
            folder.write_status("stopped", code, why)
            raise
        finally:
            folder.close()


def _failed(folder: RunFolder, error: Exception, settings: Settings, *, begun: bool) -> None:
    """Write down how the run ended; of memory that ran out in a step whoever goes on finds a note in the plan."""
    ours = convert_exception(error)
    folder.log(traceback.format_exc())
    with contextlib.suppress(SslcliError):  # a full disk may be what is wrong
        if ours.out_of_memory and begun:
            folder.amend_plan(shortage=ours.message)
        folder.write_status("failed", ours.code, ours.message)
    if settings.run.out is None and not folder.settings_file.is_file():
        folder.discard()  # nobody asked for this folder, and nothing was begun in it


def _events(settings: Settings, origins: Mapping[str, str], folder: RunFolder, request: StopRequest) -> Iterator[Event]:
    state: dict[str, Any] | None = None
    notes: list[str] = []
    divides = False
    if folder.settings_file.is_file():
        goes_on = continued(settings, origins, folder)
        settings, notes, divides = goes_on.settings, goes_on.notes, goes_on.divides
        state, damaged = checkpoint.newest(folder.checkpoints)
        notes += [f"{sentence} The one before it is used." for sentence in damaged]
    job, planned, more = assemble(settings, folder, state, divides=divides)
    yield planned
    for note in (*notes, *more):
        yield Warned(message=note)
    job.request = request
    finished: Finished | None = None
    try:
        with request.noted():
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
            request.obey()
            yield from quality(job.objective, settings, plan.as_dict(job.resolved), step=finished.step)
        yield finished


def assemble(
    settings: Settings, folder: RunFolder, state: dict[str, Any] | None, *, divides: bool = False
) -> tuple[Job, Planned, list[str]]:
    """The job, its plan, and what to warn of; the folder gets the settings and the plan.

    What was resolved before is taken as it is, from the plan or, should it be lost, from the checkpoint; but the batch
    is divided anew where the settings `divides` say so, or where memory ran out.
    """
    earlier = folder.read_plan()
    kept = earlier.get("resolved") or (state["resolved"] if state else None)
    source = open_pretraining(settings.data, settings.run.seed)
    settings, notes = plan.capped(settings, len(source))
    device = own_device(kept["device"] if kept else settings.hardware.device)
    require_batch(source.name, len(source), settings.run.batch)
    objective = build_objective(settings, device, len(source))
    data = plan.Data(len(source), source.name, source)
    if kept is None:
        made = plan.make(settings, objective, data, folder.path)
        resolved, planned = made.resolved, Planned(choices=made.choices, expected=made.expected)
        notes += made.warnings
        folder.write_settings(settings)
        folder.write_plan(planned, plan.as_dict(resolved))
        folder.write_environment({"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)})
    else:
        resolved = plan.Resolved(**kept)
        steps = len(source) // settings.run.batch * settings.schedule.epochs
        _refuse_another(resolved, state, len(source), steps)
        if divides:
            resolved = plan.divided_anew(settings, objective, data, resolved)
            notes.append(f"As asked, the run goes on with {shortage.described(resolved)}. The batch is as it was.")
        else:
            resolved, more = shortage.resumed(resolved, step_groups(settings, objective), earlier.get("shortage"))
            notes += more
        told = "every choice as it was" if resolved == plan.Resolved(**kept) else "the batch is divided otherwise"
        planned = _resumed(settings, objective, source, state["step"] if state else 0, steps, earlier, told)
        folder.amend_plan(resolved=plan.as_dict(resolved), shortage=None)
        folder.write_settings(settings)
    broadcast_run(settings, plan.as_dict(resolved), state)
    loader = build_loader(settings, objective, source, device, resolved.card_bytes)
    job = Job(settings, resolved, objective, loader, folder)
    if state is not None:
        job.restore(state)
    return job, planned, notes


def _resumed(
    settings: Settings,
    objective: Objective,
    source: Source,
    step: int,
    steps: int,
    earlier: Mapping[str, Any],
    told: str,
) -> Planned:
    """The plan of a run that goes on: of its choices what is `told`, its time what is left at the pace planned."""
    expected = {**earlier.get("expected", {}), "steps": steps}
    if step == steps:
        expected = {"steps": steps}
    elif expected.get("rate"):
        expected["seconds"] = (steps - step) * settings.run.batch / expected["rate"]
    where = f"step {step:,}" if step else "its beginning"
    where += ", the last one: nothing is left to train" if step == steps else ""
    choices = (
        *plan.describe(settings, objective, len(source), source.name),
        Choice(name="resumed", value=f"from {where}", reason=told),
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
