"""Train, in this process or in several, or plan it: what the commands that train share."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_cli.commands import options, preflight
from ssl_cli.errors import DONE, UsageError
from ssl_cli.run_path import is_started, nothing_to_resume
from ssl_cli.world import plan_for, world

if TYPE_CHECKING:  # pydantic-settings takes 0.2 s to import: only once the command line is parsed
    from ssl_cli.config.sources import Settled
    from ssl_cli.config.tree import Settings


TIMED = {
    "finetune": ("run.batch", "schedule.epochs"),
    "distill": ("run.batch", "schedule.epochs", "schedule.warmup"),
}
"""Settings that --time leaves open, whatever the recipe, unless they are given; fine-tuning has no warm-up."""


@dataclass(frozen=True)
class Request:
    """How a command was asked to train.

    Attributes:
        command: its name.
        words: its command line.
        devices: processes that share a step, if given.
        resume: continue the run in its folder.
        overwrite: replace it.
        as_json: write the result as JSON.
    """

    command: str
    words: Sequence[str]
    devices: int | None = None
    resume: bool = False
    overwrite: bool = False
    as_json: bool = False

    @property
    def several(self) -> int | None:
        """Return the processes to start, None where this process trains."""
        return self.devices if self.devices is not None and self.devices > 1 and world().size == 1 else None


def start(
    request: Request,
    run: str | None,
    params: Mapping[str, Any],
    *,
    sets: Sequence[str],
    config: Path | None,
    plan_alone: bool,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
) -> int:
    """Train from another run, or plan it; return the exit code.

    Args:
        request: the command line, and whether it resumes or overwrites.
        run: run to start from; None: the one in `out` is resumed.
        params: values of the command's parameters by name; those of `options.SETTINGS` are settings.
        sets: each --set, `a.b=c`.
        config: file of --config.
        plan_alone: show the plan, and train nothing.
        own: further settings, as nested tables.
        names: flags of the settings in `own`, by dotted key, for messages.

    Raises:
        UsageError: there is no run to start from, or flags that exclude each other.
        SslcliError: as `transfer.start`.
    """
    here = world()
    if not here.is_rank_zero and plan_alone:
        return DONE
    out = params.get("out")
    resumed = request.resume and out is not None and is_started(Path(out))
    if run is None and not resumed and request.resume and out is not None:
        start = "TEACHER" if request.command == "distill" else "RUN"
        raise nothing_to_resume(Path(out), "run", f"sslcli {request.command} {start}")
    if run is None and not resumed:
        what = "a fine-tuned run" if request.command == "distill" else "a run of pretrain"
        raise UsageError(f"{request.command} starts from {what}.", f"sslcli {request.command} RUN, its folder.")
    flags = options.flags(params)
    for section, table in (own or {}).items():
        flags[section] = {**flags.get(section, {}), **table}
    if params.get("time"):
        typed = {key for name, key in options.SETTINGS.items() if params.get(name) is not None}
        typed |= {item.partition("=")[0].strip() for item in sets}
        flags["run"]["fit"] = tuple(key for key in TIMED[request.command] if key not in typed)
    flag_names = {**options.FLAG_NAMES, **(names or {})}
    if here.is_rank_zero:
        preflight.starting(params, run if not resumed else None, request, plan_alone=plan_alone)
    from ssl_cli.config import start as starting
    from ssl_cli.transfer.start import settle_start  # imports torch: after what can be refused without it

    asked = starting.Request(request.command, run, flags, sets, config, flag_names)
    alone = resumed or not here.is_rank_zero
    settled = starting.settle_resumed(asked) if alone else settle_start(asked)
    if here.is_rank_zero:
        how = {"resume": request.resume, "overwrite": request.overwrite, "dry_run": plan_alone}
        preflight.training(settled.settings, devices=request.devices, **how)
    return dry_run(settled.settings, request) if plan_alone else train(settled, request)


def dry_run(settings: "Settings", request: Request) -> int:
    """Show the plan, and train nothing; return the exit code."""
    from ssl_cli.ui.sinks import present

    if several := request.several:  # read once: from then on this process plans as one of several
        plan_for(several)
        from ssl_cli.engine.workers.launch import require_devices

        require_devices(settings.hardware.device, several)
    from ssl_cli.engine.plan.dry_run import dry_run as planned

    return present(request.command, planned(settings), as_json=request.as_json)


def train(settled: "Settled", request: Request) -> int:
    """Train as this rank, or start the ranks and wait for them; return the exit code."""
    from ssl_cli.signals import stop_request

    with stop_request():  # from here on: torch takes seconds to be imported
        if not world().is_rank_zero:
            return _run_worker(settled.settings)
        if request.several:
            return _launch(settled.settings, request, request.several)
        return _run(settled, request)


def _run(settled: "Settled", request: Request) -> int:
    """Train in this process, which is the only one or rank 0."""
    from ssl_cli.engine.pretrain import pretrain as run  # imports torch: after the settings are validated
    from ssl_cli.ui.sinks import present

    # closed here, so that the run's status is written however the display ends
    how = {"resume": request.resume, "overwrite": request.overwrite}
    with closing(run(settled.settings, origins=settled.origins, **how)) as events:
        return present(request.command, events, as_json=request.as_json)


def _run_worker(settings: "Settings") -> int:
    """Train as a rank above 0."""
    from ssl_cli.engine.workers.worker import run_worker

    return run_worker(settings)


def _launch(settings: "Settings", request: Request, processes: int) -> int:
    """Start the processes, and wait for them."""
    from ssl_cli.engine.workers.launch import launch
    from ssl_cli.run_path import default_path

    out = Path(settings.run.out) if settings.run.out else default_path(settings.method.name)
    named = [*request.words, "--out", str(out)]  # the last one counts
    return launch(named, processes, device=settings.hardware.device, out=out)
