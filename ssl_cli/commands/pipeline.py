"""`sslcli pipeline`: pretrain, fine-tune and distil in one folder, which can be resumed, and compare the results."""

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_cli import disk, lock
from ssl_cli.commands import distill, options
from ssl_cli.errors import DONE, EXIT_CODES, DivergedError, Interrupted, SslcliError, UsageError, convert_exception
from ssl_cli.run_path import default_path, nothing_to_resume
from ssl_cli.ui.text import safe
from ssl_cli.world import world

if TYPE_CHECKING:  # pydantic-settings takes 0.2 s to import: only once the command line is parsed
    from ssl_cli.pipeline import Pipeline
    from ssl_cli.planning.stages import Asked, Stage

EPILOG = options.examples(
    "A classifier from a tenth of the labels, in two hours: sslcli pipeline photos/ --labels 10% --time 2h "
    "--out runs/road",
    "Another method and student: sslcli pipeline photos/ --labels 4-per-class --method moco-v2 --student resnet18",
    "The stages, without training: sslcli pipeline photos/ --labels 10% --time 2h --dry-run",
    "Continue after an interruption: sslcli pipeline --resume --out runs/road",
)
Labels = Annotated[
    str | None,
    typer.Option(metavar="L", help="10%, 4-per-class, or FILE of paths, or CSV", rich_help_panel=options.DATA),
]
PipelineTime = Annotated[
    str | None,
    typer.Option(metavar="T", help="All stages in 20m, 2h (default: each its own)", rich_help_panel=options.TRAINING),
]
StudentWidth = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        help="The student's width (default: the teacher's, half of it without --student)",
        rich_help_panel=options.TRAINING,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of pretraining.", rich_help_panel=options.SETTING),
]
Folder = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Folder of all stages (default: runs/<time>-pipeline)", rich_help_panel=options.OUTPUT
    ),
]
ASKED = ("data", "test_data", "labels", "method", "time", "student", "width", "seed")
"""Parameters of the command that `Asked` has, too."""


def pipeline(
    ctx: typer.Context,
    data: options.Data = None,
    labels: Labels = None,
    method: options.Method = None,
    time: PipelineTime = None,
    student: distill.Student = None,
    width: StudentWidth = None,
    seed: options.Seed = None,
    test_data: options.TestData = None,
    download: options.Download = None,
    device: options.Device = None,
    set_: Set = None,
    out: Folder = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Pretrain, fine-tune with few labels and distil, and compare with a linear probe and training from scratch."""
    from ssl_cli.planning import stages
    from ssl_cli.signals import stop_request

    _refuse(out, resume=resume, overwrite=overwrite, dry_run=dry_run)
    given = stages.normal({**{name: ctx.params[name] for name in ASKED}, "sets": tuple(set_ or ())})
    folder = Path(out) if out is not None else default_path("pipeline")
    found = stages.opened(folder, resume=resume, overwrite=overwrite)
    resumed = resume and found is not None
    if found is not None and resume:
        stages.require_same(found, given)
    elif resume and not data:
        raise nothing_to_resume(folder, "pipeline", "sslcli pipeline DATA --labels 10%")
    asked = found if found is not None and resume else stages.asked(given)
    machine = _machine(asked, folder if resumed else None, device, download)
    with stop_request() as request:  # from here on: torch takes seconds to be imported
        from ssl_cli.pipeline import Pipeline, check

        if not resumed:
            images = check(asked)
            if dry_run:
                return _plan(asked, folder, asdict(images), as_json=json)
        runner = Pipeline(folder, asked, device, download, machine)
        return _run(runner, request.raise_if_signalled, overwrite=overwrite, as_json=json)


def _refuse(out: str | None, *, resume: bool, overwrite: bool, dry_run: bool) -> None:
    """Refuse flags that exclude each other, and several ranks."""
    if world().size > 1:
        hint = "Leave the launcher out, or run its stages by hand: pretrain, finetune and distill take several ranks."
        raise UsageError("pipeline runs in one process.", hint)
    if dry_run and resume:
        from ssl_cli.commands.preflight import PLAN_OR_RESUME

        raise UsageError(*PLAN_OR_RESUME)
    if out is None and (resume or overwrite):
        flag = "--resume" if resume else "--overwrite"
        raise UsageError(f"{flag} needs to know which pipeline.", "Name its folder with --out.")


def _machine(asked: "Asked", folder: Path | None, device: str | None, download: bool | None) -> dict[str, Any]:
    """Return this machine's settings by dotted key; refuse what can be refused without torch.

    Raises:
        UsageError: a setting that is not valid.
        DataError: no such images.
    """
    from ssl_cli.config.sources import settle_machine
    from ssl_cli.planning import stages

    if folder is None:
        stages.check(asked)
    flags = {"hardware": {"device": device}, "data": {"download": download}}
    own = asked.method is not None and ":" in asked.method
    return settle_machine(flags, flag_names=options.FLAG_NAMES, own_method=own)


def _plan(asked: "Asked", folder: Path, images: Mapping[str, int], *, as_json: bool) -> int:
    from ssl_cli.ui import pipeline as display
    from ssl_cli.ui.document import write_document

    document = display.plan_document(asked, folder, images)
    write_document("pipeline", document, display.plan(asked, folder, images), as_json=as_json)
    return DONE


def _run(runner: "Pipeline", raise_if_signalled: Callable[[], None], *, overwrite: bool, as_json: bool) -> int:
    """Run the stages that are left, show each, and report what all of them reached; return the exit code."""
    from ssl_cli.pipeline import clear
    from ssl_cli.planning.reached import is_done, reached
    from ssl_cli.planning.stages import STAGES, write
    from ssl_cli.ui import pipeline as display
    from ssl_cli.ui.document import write_document
    from ssl_cli.ui.sinks import show

    disk.make_folder(runner.folder)
    with lock.acquire(runner.folder):
        if overwrite:
            clear(runner.folder)
        write(runner.folder, runner.asked)
        for stage in STAGES:
            if is_done(runner.folder, stage):
                sys.stderr.write(f"{display.title(stage)}: done before\n")
                continue
            sys.stderr.write(f"\n{display.title(stage)}\n")
            sys.stderr.flush()
            try:
                raise_if_signalled()
                with closing(runner.events(stage)) as events:
                    screen = show(stage.command, events)
            except Interrupted as stop:
                return _stopped(runner, stage, stop.code, stop.reason, as_json=as_json)
            except Exception as error:
                converted = _of_stage(convert_exception(error), stage, runner.folder)
                raise converted from (error.__cause__ if converted is error else error)
            if screen.stopped is not None:
                return _stopped(runner, stage, screen.exit_code, screen.stopped.reason, as_json=as_json)
            sys.stderr.writelines(f"{line}\n" for line in display.outcome(stage, screen))
    rows = reached(runner.folder)
    lines = display.lines(rows, runner.asked, runner.folder)
    write_document("pipeline", display.document(rows, runner.asked, runner.folder), lines, as_json=as_json)
    return DONE


def _of_stage(error: SslcliError, stage: "Stage", folder: Path) -> SslcliError:
    """Return the error of a stage with its name in the message, and how to continue in the hint."""
    hint, again = error.hint or error.otherwise, _again(folder)
    if isinstance(error, DivergedError) and stage.command != "linear-eval":
        run = folder / stage.name
        hint = f"Repeat it by hand: sslcli {stage.command} with a lower --lr, --out {run} and --overwrite."
    error.message, error.hint = f"In the stage {stage.name}: {error.message}", f"{hint} Then: {again}"
    return error


def _again(folder: Path) -> str:
    return f"sslcli pipeline --resume --out {shlex.quote(str(folder))}"


def _stopped(runner: "Pipeline", stage: "Stage", code: int, reason: str, *, as_json: bool) -> int:
    """Report a pipeline that was stopped, and how to continue it; return the exit code."""
    from ssl_cli.planning.reached import reached
    from ssl_cli.ui import pipeline as display
    from ssl_cli.ui.document import write_document

    document = display.document(reached(runner.folder), runner.asked, runner.folder)
    document["error"] = {"code": code, "message": f"Stopped in {stage.name}: {reason}.", "hint": _again(runner.folder)}
    lines = (f"stopped    in {stage.name}: {safe(reason)} ({EXIT_CODES[code]})", f"next       {_again(runner.folder)}")
    write_document("pipeline", document, lines, as_json=as_json)
    return code
