"""A run, of pretraining or one that starts from another, from its settings to its last event."""

import contextlib
import time
import traceback
from collections.abc import Generator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ssl_cli import checkpoint, curves, records
from ssl_cli.config.images import with_absolute_paths
from ssl_cli.config.resume import Continuation, continued
from ssl_cli.config.tree import Settings
from ssl_cli.data.fingerprint import Record, record_of, require_same
from ssl_cli.data.loader import require_batch
from ssl_cli.data.measured import measured
from ssl_cli.data.source import Source, described
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective, local_device
from ssl_cli.engine.evaluation.classify import classify
from ssl_cli.engine.evaluation.quality import quality
from ssl_cli.engine.plan import oom
from ssl_cli.engine.plan.plan import Plan, describe, make_plan, replan
from ssl_cli.engine.plan.size import SizedRun, size
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.engine.run.state import restore_state
from ssl_cli.engine.train import Trainer, save_unsaved, train
from ssl_cli.engine.workers.worker import broadcast_run, process_group
from ssl_cli.errors import (
    DONE,
    STOPPED,
    CheckpointError,
    DataError,
    Interrupted,
    SslcliError,
    UsageError,
    convert_exception,
)
from ssl_cli.events import Choice, Evaluated, Event, Finished, Planned, Started, Stopped, Warned
from ssl_cli.logs import capture_logging
from ssl_cli.objective import Objective
from ssl_cli.planning.queue import cap_queue
from ssl_cli.planning.resolved import Resolved
from ssl_cli.planning.size import fitted
from ssl_cli.run_path import default_path, refuse_unfit
from ssl_cli.signals import StopRequest, exit_code, stop_reason, stop_request
from ssl_cli.trackers.track import tracked
from ssl_cli.weights.initial import read_initial, recorded


def pretrain(
    settings: Settings, *, origins: Mapping[str, str], resume: bool, overwrite: bool
) -> Generator[Event, None, None]:
    """Train; record every event that is yielded in the run folder.

    Args:
        settings: settings of the run.
        origins: where each value came from; see `continued`.
        resume: continue the run in `run.out`, or start one where there is none.
        overwrite: replace the run in `run.out`.

    Raises:
        SslcliError: any error a user can cause; it is also in `status.json`.
        Interrupted: a signal came while no step was running, or a second Ctrl-C.
    """
    refuse_unfit(None if settings.run.out is None else Path(settings.run.out), resume=resume, overwrite=overwrite)
    out = Path(settings.run.out) if settings.run.out else default_path(settings.method.name)
    with stop_request() as request:
        with request.deferred():  # an interrupt here would leave a folder whose status is running
            folder = RunFolder(out, resume=resume, overwrite=overwrite)
        last: Event | None = None
        started, measured = False, None
        try:
            request.raise_if_signalled()
            with capture_logging(folder.log, out), process_group(local_device(settings.hardware.device), request):
                run = with_absolute_paths(settings, out), origins, folder, request
                for last in tracked(_events(*run, resume=resume), folder.record, folder.path, folder.id):
                    started |= isinstance(last, Started)
                    measured = last.result if isinstance(last, Evaluated) and last.name == "quality" else measured
                    yield last
            _draw(folder)
            if isinstance(last, Stopped):
                folder.write_status("stopped", last.exit_code, last.reason)
            else:
                folder.write_status("finished", DONE, quality=measured)
        except Exception as error:
            _record_failure(folder, error, settings, started=started)
            raise
        except Interrupted as stop:
            folder.write_status("stopped", stop.code, stop.reason)
            raise
        except BaseException:  # the generator was closed, or interrupted while its caller had control
            number = request.signal
            code, why = (
                (exit_code(number), stop_reason(number)) if number else (STOPPED, "its events were no longer read")
            )
            folder.write_status("stopped", code, why)
            raise
        finally:
            folder.close()


def _draw(folder: RunFolder) -> None:
    """Draw the curves of the run into its folder; what fails there is logged, and ends no run."""
    try:
        curves.write(folder.path)
    except Exception:
        folder.log(f"the curves were not drawn: {traceback.format_exc()}")


def _record_failure(folder: RunFolder, error: Exception, settings: Settings, *, started: bool) -> None:
    """Write the failure to the log and the status; after out of memory in a step, leave a note for the next resume."""
    converted = convert_exception(error)
    folder.log(traceback.format_exc())
    with contextlib.suppress(SslcliError):  # a full disk may be the cause
        if converted.out_of_memory and started:
            folder.amend_plan(out_of_memory=converted.message)
        folder.write_status("failed", converted.code, converted.message)
    if settings.run.out is None and not folder.settings_file.is_file():
        folder.discard()  # a folder of our own naming, in which nothing was started


def _events(
    settings: Settings, origins: Mapping[str, str], folder: RunFolder, request: StopRequest, *, resume: bool
) -> Generator[Event, None, None]:
    continuation, state, notes = _reopen(settings, origins, folder, resume=resume)
    trainer, planned, more = assemble(continuation, folder, state, request)
    yield planned
    for note in (*notes, *more):
        yield Warned(message=note)
    finished: Finished | None = None
    try:
        with request.deferred():
            for event in train(trainer):
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
    except DataError:
        yield from trainer.loader.skipped  # too many files are bad: these are the last ones
        raise
    except GeneratorExit:  # the events are no longer read: nothing of what was trained is lost
        save_unsaved(trainer)
        raise
    if finished is not None:
        settings = trainer.resolved.as_calibrated(trainer.settings)
        if settings.run.evaluate:
            request.raise_if_signalled()
            trained, precision, source = trainer.objective, trainer.resolved.precision, trainer.loader.source
            measure = classify if trained.classes else quality
            yield from measure(trained, settings, precision, source, step=finished.step, folder=folder.path)
        yield finished


def _reopen(
    settings: Settings, origins: Mapping[str, str], folder: RunFolder, *, resume: bool
) -> tuple[Continuation, dict[str, Any] | None, list[str]]:
    """Return how the run continues, the checkpoint from which, if any, and what to warn of.

    Raises:
        CheckpointError: checkpoints were saved, and none of them is whole, or there: nothing starts over silently.
    """
    state, notes = checkpoint.newest(folder.checkpoints, folder.id)
    if state is None and folder.has_saved():
        raise CheckpointError(
            f"The checkpoints of the run in {folder.path} are gone.",
            "Restore them, or start over with --overwrite or with another --out.",
        )
    if resume and folder.died:
        notes.insert(0, "The last process of this run died: it was killed, or the machine stopped.")
    if resume and state is None:
        notes.append(f"There is nothing in {folder.path} to resume yet: training starts from step 0.")
    if state is None and not folder.settings_file.exists():
        return Continuation(settings, [], replan=False), None, notes
    plan = folder.read_plan().get("resolved")
    sized = plan.get("sized") if isinstance(plan, dict) else None
    sized = sized if isinstance(sized, dict) else state["resolved"].get("sized", {}) if state else {}
    known = bool((plan if isinstance(plan, dict) else state["resolved"] if state else {}).get("fingerprint"))
    saved = state and state["settings"]
    continuation = continued(settings, origins, folder.settings_file, saved, sized, known=known)
    return continuation, state, [*continuation.notes, *notes]


def assemble(
    continuation: Continuation, folder: RunFolder, state: dict[str, Any] | None, request: StopRequest
) -> tuple[Trainer, Planned, list[str]]:
    """Return the trainer, its plan and what to warn of; write settings and plan to the folder.

    Choices that an earlier process resolved are used unchanged, from `plan.json` or, where that is lost, from the
    checkpoint; only the micro-batches are planned again where the settings say so, or after out of memory.
    """
    started = state is not None or folder.settings_file.exists()
    earlier = folder.read_plan() if started else {}  # else of a start that was given up
    initial = None if state else read_initial(continuation.settings)
    began, asked = time.monotonic(), recorded(continuation.settings, initial)
    resolved = before = _recorded(earlier.get("resolved"), state["resolved"] if state else None, folder, asked)
    source = open_pretraining(asked.data, asked.run.seed)
    record = record_of(source, by_group=asked.data.positives == "group")
    asked, data_choices = (asked, ()) if resolved else measured(asked, source)
    device = local_device(continuation.device or (resolved.device if resolved else asked.hardware.device))
    require_batch(source.name, len(source), 2 if resolved or "run.batch" in asked.run.fit else asked.run.batch)
    sized = SizedRun(fitted(asked, resolved.sized)) if resolved else size(asked, len(source), source, device)
    settings, notes = cap_queue(sized.settings, len(source))
    if resolved:
        require_same(record, resolved.fingerprint, resolved.images, folder.path)
        _refuse_more_steps(state, resolved.steps(settings))
    if resolved and torch.device(resolved.device).type != device.type:
        notes.append(f"The run continues on {device.type}, not on {resolved.device}: it is planned for that device.")
        resolved = None
    objective = build_objective(settings, device, len(source), initial, source)
    initial_choice = (initial.choice(objective, settings),) if initial else ()
    if resolved is None:
        spent = time.monotonic() - began
        sized = replace(sized, choices=(*sized.choices, *data_choices, *initial_choice))
        plan = _new_plan(settings, objective, source, folder, sized, record, spent=spent, earlier=before)
        settings, resolved, ram, planned = plan.settings, plan.resolved, plan.cache_bytes, _planned(plan)
        notes += plan.warnings
    else:
        before = resolved
        if continuation.replan:
            resolved, ram = replan(settings, objective, resolved, source)
            parts = oom.describe_micro_batches(resolved)
            notes.append(f"As asked, the run continues with {parts}. The batch is unchanged.")
        else:
            note = earlier.get("out_of_memory") or earlier.get("shortage")
            resolved, ram, more = oom.resume_smaller(settings, objective, resolved, source, note, killed=folder.killed)
            notes += more
        what = "all choices unchanged" if resolved == before else "the micro-batches differ"
        taken, shown = state["step"] if state else 0, resolved.as_calibrated(settings)
        planned = _resumed_plan(shown, objective, source, taken, earlier, what)
        folder.amend_plan(resolved=resolved.as_dict(), **dict.fromkeys(("out_of_memory", "shortage")))
    if state is None or state["step"] < resolved.steps(settings):
        folder.begin()
    folder.write_settings(asked)  # as the same command line gives them on a resume
    loaded = state is None and (objective.load_start() or initial is not None)
    broadcast_run(settings, resolved.as_dict(), state, objective if loaded else None)
    loader = build_loader(
        settings, objective, source, device, cache_bytes=ram, gpu_cache_bytes=resolved.gpu_cache_bytes
    )
    trainer = Trainer(settings, resolved, objective, loader, folder, request)
    if state is not None:
        trainer.start = restore_state(state, trainer.objective, trainer.optimiser)
    return trainer, planned, notes


def _new_plan(
    settings: Settings, objective: Objective, source: Source, folder: RunFolder, sized: SizedRun, record: Record, *,
    spent: float, earlier: Resolved | None,
) -> Plan:  # fmt: skip
    """Plan a run that has no plan for this device, and write the plan and the environment to the folder."""
    plan = make_plan(
        settings, objective, len(source), described(source), source, folder.path, spent=spent, earlier=earlier
    )
    resolved = replace(plan.resolved, fingerprint=record.write(folder.path))
    choices, warnings = (*sized.choices, *plan.choices), (*sized.warnings, *plan.warnings)
    plan = replace(plan, resolved=resolved, choices=choices, warnings=warnings)
    folder.write_plan(_planned(plan), plan.resolved.as_dict())
    folder.write_environment({"torch": str(torch.__version__), "torchvision": version("torchvision")})
    return plan


def _planned(plan: Plan) -> Planned:
    return Planned(choices=plan.choices, expected=plan.expected)


def _recorded(planned: Any, saved: Any, folder: RunFolder, settings: Settings) -> Resolved | None:
    """Return the choices in `plan.json`, or where they are lost or damaged those in the checkpoint.

    Where the number of epochs is given by now, what was counted by the time is left out.

    Raises:
        CheckpointError: those of the checkpoint are damaged.
    """

    def read(values: Any) -> Resolved:
        found = Resolved.from_dict(values)
        fitted(settings, found.sized)
        return found if "schedule.epochs" in settings.run.fit else replace(found, timing=None, calibrations=())

    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return read(planned)
    try:
        return None if saved is None else read(saved)
    except ValueError as error:
        raise CheckpointError(f"The plan in the checkpoint of {folder.path} is damaged.", str(error)) from error


def _resumed_plan(
    settings: Settings, objective: Objective, source: Source, step: int, earlier: dict[str, Any], what: str
) -> Planned:
    """Return the plan of a run that is resumed after `step` steps.

    Its time is that of the steps that are left, at the throughput planned before.
    """
    steps = settings.schedule.steps(len(source) // settings.run.batch)
    numbers = {name: records.number(value) for name, value in records.table(earlier, "expected").items()}
    expected = {**{name: value for name, value in numbers.items() if value is not None}, "steps": steps}
    if step == steps:
        expected = {"steps": steps}
    elif expected.get("rate", 0) > 0:
        expected["seconds"] = (steps - step) * settings.run.batch / expected["rate"]
    else:
        expected.pop("seconds", None)
    where = f"step {step:,}" if step else "its beginning"
    where += ", the last one: nothing is left to train" if step == steps else ""
    choices = (
        *describe(settings, objective, len(source), described(source)),
        Choice(name="resumed", value=f"from {where}", reason=what),
    )
    return Planned(choices=choices, expected=expected)


def _refuse_more_steps(state: dict[str, Any] | None, steps: int) -> None:
    if state and state["step"] > steps:
        raise UsageError(
            f"The run has taken {state['step']:,} steps, and these epochs have only {steps:,}.", "Pass more --epochs."
        )
