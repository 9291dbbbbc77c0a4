"""A pretraining run from its settings to its last event."""

import tomllib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader, cap_for
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine import checkpoint, plan
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluate import quality
from ssl_cli.engine.job import Job
from ssl_cli.engine.loop import train
from ssl_cli.engine.run_folder import RunFolder, default_path
from ssl_cli.engine.signals import StopRequest, stop_request
from ssl_cli.errors import DONE, CheckpointError, SslcliError, UsageError
from ssl_cli.events import Choice, Event, Finished, Planned, Stopped, Warned

# What may differ between a run and its continuation: nothing that changes what a step computes.
FREE_ON_RESUME = {
    "schedule.epochs", "run.log_every", "run.checkpoint_every", "run.keep", "run.max_time", "run.out", "run.evaluate",
    "data.threads", "data.cache",
}  # fmt: skip


def pretrain(settings: Settings, *, origins: Mapping[str, str], resume: bool, overwrite: bool) -> Iterator[Event]:
    """Train an encoder; the run folder keeps all that is yielded.

    Args:
        settings: the settled tree.
        origins: where each value came from; only `recipe` and `default` ones may differ from a resumed run's.
        resume: continue the run in `run.out`, or start it where there is none.
        overwrite: replace the run in `run.out`.

    Raises:
        SslcliError: any error a user can cause; `status.json` has it too.
    """
    if resume and settings.run.out is None:
        raise UsageError("--resume needs to know which run.", "Name its folder with --out.")
    out = Path(settings.run.out) if settings.run.out else default_path(settings.method.name)
    folder = RunFolder(out, resume=resume, overwrite=overwrite)
    try:
        last: Event | None = None
        with stop_request() as request:
            for last in _events(settings, origins, folder, request):
                folder.record(last)
                folder.log_event(last)
                yield last
        if isinstance(last, Stopped):
            folder.write_status("stopped", last.exit_code, last.reason)
        else:
            folder.write_status("finished", DONE)
    except SslcliError as error:
        folder.log(traceback.format_exc())
        folder.write_status("failed", error.code, error.message)
        raise
    except Exception as error:
        folder.log(traceback.format_exc())
        folder.write_status("failed", SslcliError.code, repr(error))
        raise
    finally:
        folder.close()


def _events(settings: Settings, origins: Mapping[str, str], folder: RunFolder, request: StopRequest) -> Iterator[Event]:
    state: dict[str, Any] | None = None
    notes: list[str] = []
    if folder.settings_file.is_file():
        settings, notes = _continued(settings, origins, folder)
        state, damaged = checkpoint.newest(folder.checkpoints)
        notes += [f"{sentence} The one before it is used." for sentence in damaged]
    source = open_pretraining(settings.data, settings.run.seed)
    if state is None:
        settings, capped = _cap_queue(settings, len(source))
        notes += capped
    loader = Loader(
        source, settings.run.batch, settings.run.seed,
        threads=settings.data.threads, cache=settings.data.cache, cap=cap_for(settings.data.size),
    )  # fmt: skip
    device = torch.device(state["resolved"]["device"]) if state else plan.resolve_device(settings.hardware.device)
    objective = build_objective(settings, device)
    choices = plan.describe(settings, objective, len(source), loader.steps_per_epoch)
    if state is None:
        resolved, found = plan.resolve(settings, objective, device)
    else:
        resolved, found = plan.Resolved(**state["resolved"]), []
        torch.set_num_threads(resolved.threads)  # how sums are split decides their last bits
        found = [Choice(name="resumed", value=f"step {state['step']:,}", reason="every choice as it was")]
    folder.write_settings(settings)
    folder.write_plan([vars(choice) for choice in (*choices, *found)], plan.as_dict(resolved))
    folder.write_environment({"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)})
    yield Planned(choices=(*choices, *found))
    for note in notes:
        yield Warned(message=note)
    job = Job(settings, resolved, objective, loader, folder, request)
    if state is not None:
        job.restore(state)
    for event in train(job):
        if isinstance(event, Finished) and settings.run.evaluate:
            yield from quality(objective, settings, plan.as_dict(resolved), step=event.step)
        yield event


def _continued(settings: Settings, origins: Mapping[str, str], folder: RunFolder) -> tuple[Settings, list[str]]:
    """The settings of the run in `folder`, with what may differ taken from `settings`."""
    try:
        kept = Settings.model_validate(tomllib.loads(folder.settings_file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CheckpointError(
            f"{folder.settings_file} is damaged.", "Restore it, or start anew with --overwrite."
        ) from error
    if ":" in kept.method.name and settings.method.name != kept.method.name:
        # a file found by a name in another file is not run unasked
        raise UsageError(
            f"This run was made by {kept.method.name}, code of your own.", f"Add --method {kept.method.name} to run it."
        )
    old, new = kept.model_dump(), settings.model_dump()
    notes = []
    for key, origin in origins.items():
        if origin in {"recipe", "default"} or origin.startswith("recipe"):
            continue
        section, _, name = key.partition(".")
        before, after = old[section].get(name), new[section].get(name)
        if before == after:
            continue
        if key not in FREE_ON_RESUME:
            raise UsageError(
                f"{key} is {before} in this run and cannot become {after} ({origin}).",
                "Leave it out to go on as before, or start another run with another --out.",
            )
        old[section][name] = after
        if key == "schedule.epochs":
            notes.append(
                f"The run now has {after} epochs instead of {before}; the learning rate follows a new schedule."
            )
    return Settings.model_validate(old), notes


def _cap_queue(settings: Settings, images: int) -> tuple[Settings, list[str]]:
    """A queue of at most half the images: a longer one would hold many a query's own image as a negative."""
    queue = getattr(settings.method, "queue", None)
    most = max(images // 2, 1)
    if not isinstance(queue, int) or queue <= most:
        return settings, []
    method = settings.method.model_copy(update={"queue": most})
    note = f"The queue is capped from {queue:,} to {most:,} keys, half of the {images:,} images."
    return settings.model_copy(update={"method": method}), [note]
