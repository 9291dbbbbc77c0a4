"""`sslcli finetune`: train a classifier from a run and a few labels."""

from typing import Annotated, Any

import typer

from ssl_cli.commands import options

EPILOG = options.examples(
    "From a tenth of the run's own labels: sslcli finetune runs/photos --labels 10% --out runs/classifier",
    "Four labelled images of each class: sslcli finetune runs/photos --labels 4-per-class",
    "Images that a file lists, path,label a line: sslcli finetune runs/photos photos/ --labels labels.csv",
    "From h, without the head: sslcli finetune runs/photos --labels 10% --from-layer 0",
    "As the SimCLR v2 paper does: sslcli finetune runs/photos --labels 1% --recipe imagenet",
    "Continue after an interruption: sslcli finetune --resume --out runs/classifier",
)
FromLayer = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        min=0,
        help="Head layer to keep; 0: none (default: 1 of a head of 3, below 100% of labels)",
        rich_help_panel=options.TRAINING,
    ),
]


def finetune(
    ctx: typer.Context,
    run: options.StartRun = None,
    data: options.LabelledData = None,
    labels: options.Labels = None,
    from_layer: FromLayer = None,
    batch: options.BatchSize = None,
    epochs: options.Epochs = None,
    lr: options.Lr = None,
    seed: options.Seed = None,
    time: options.Time = None,
    max_time: options.MaxTime = None,
    test_data: options.TestData = None,
    download: options.Download = None,
    on_bad_image: options.OnBadImage = None,
    group_by: options.GroupBy = None,
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
    tracker: options.Tracker = None,
    out: options.Out = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Train a classifier of labelled images from a run, all of its network."""
    from ssl_cli.commands import training

    request = training.Request("finetune", ctx.obj, devices, resume=resume, overwrite=overwrite, as_json=json)
    own: dict[str, dict[str, Any]] = {"data": {"labels": labels}, "method": {"from_layer": from_layer}}
    names = {"data.labels": "--labels", "method.from_layer": "--from-layer"}
    return training.start(
        request, run, ctx.params, sets=set_ or (), config=config, plan_alone=dry_run, own=own, names=names
    )
