"""`sslcli pretrain`: train an encoder without labels."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ssl_cli.commands import options
from ssl_cli.errors import DONE
from ssl_cli.world import plan_for, world

if TYPE_CHECKING:  # pydantic-settings takes 0.2 s to import: only once the command line is parsed
    from ssl_cli.config.sources import Settled
    from ssl_cli.config.tree import Settings

EPILOG = options.examples(
    "Your images, sized for their number and this machine: sslcli pretrain photos/",
    "The same in another time, complete when it is over: sslcli pretrain photos/ --time 2h --out runs/photos",
    "The embedded shapes, about four minutes: sslcli pretrain",
    "A batch of any size, on any machine: sslcli pretrain --method simclr --batch 4096",
    "Pictures that strong crops or flips would spoil: sslcli pretrain photos/ --gentle",
    "From the weights of a run, or of other code (FILE.pth): sslcli pretrain photos/ --init-from runs/photos",
    "Continue after an interruption: sslcli pretrain --resume --out runs/photos",
    "On two GPUs, or in two processes: sslcli pretrain photos/ --devices 2 --batch 512",
    "The plan, and what other times would give, without training: sslcli pretrain photos/ --dry-run",
    "Settings without a flag: sslcli pretrain --set method.temperature=0.5 --set data.images=65536",
)


def pretrain(
    ctx: typer.Context,
    data: options.Data = None,
    method: options.Method = None,
    backbone: options.Backbone = None,
    width: options.Width = None,
    init_from: options.InitFrom = None,
    pretrained: options.Pretrained = None,
    batch: options.BatchSize = None,
    epochs: options.Epochs = None,
    lr: options.Lr = None,
    gentle: options.Gentle = False,
    seed: options.Seed = None,
    time: options.Time = None,
    max_time: options.MaxTime = None,
    image_size: options.ImageSize = None,
    test_data: options.TestData = None,
    download: options.Download = None,
    threads: options.Threads = None,
    device: options.Device = None,
    precision: options.Precision = None,
    micro_batch: options.MicroBatch = None,
    memory: options.Memory = None,
    compile: options.Compile = None,
    devices: options.Devices = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    out: options.Out = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Train an encoder on images without labels."""
    from ssl_cli.commands import preflight
    from ssl_cli.config.sources import settle
    from ssl_cli.signals import stop_request

    settled = settle(options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES, gentle=gentle)
    if not world().is_rank_zero and dry_run:
        return DONE
    several = devices if devices is not None and devices > 1 and world().size == 1 else None
    if world().is_rank_zero:
        preflight.training(settled.settings, resume=resume, overwrite=overwrite, dry_run=dry_run, devices=devices)
    if dry_run:
        return _plan(settled.settings, several, as_json=json)
    with stop_request():  # from here on: torch takes seconds to be imported
        if not world().is_rank_zero:
            return _run_worker(settled.settings)
        if several:
            return _launch(ctx.obj, settled.settings, several)
        return _run(settled, resume=resume, overwrite=overwrite, as_json=json)


def _plan(settings: "Settings", processes: int | None, *, as_json: bool) -> int:
    """Plan a run, of so many processes, without training."""
    if processes:
        plan_for(processes)
        from ssl_cli.engine.workers.launch import require_devices

        require_devices(settings.hardware.device, processes)
    from ssl_cli.engine.plan.dry_run import dry_run
    from ssl_cli.ui.sinks import present

    return present("pretrain", dry_run(settings), as_json=as_json)


def _run(settled: "Settled", *, resume: bool, overwrite: bool, as_json: bool) -> int:
    """Train in this process, which is the only one or rank 0."""
    from ssl_cli.engine.pretrain import pretrain as run  # imports torch: after the settings are validated
    from ssl_cli.ui.sinks import present

    # closed here, so that the run's status is written however the display ends
    with closing(run(settled.settings, origins=settled.origins, resume=resume, overwrite=overwrite)) as events:
        return present("pretrain", events, as_json=as_json)


def _run_worker(settings: "Settings") -> int:
    """Train as a rank above 0."""
    from ssl_cli.engine.workers.worker import run_worker

    return run_worker(settings)


def _launch(words: Sequence[str], settings: "Settings", processes: int) -> int:
    """Start the processes, and wait for them."""
    from ssl_cli.engine.workers.launch import launch
    from ssl_cli.run_path import default_path

    out = Path(settings.run.out) if settings.run.out else default_path(settings.method.name)
    named = [*words, "--out", str(out)]  # the last one counts
    return launch(named, processes, device=settings.hardware.device, out=out)
