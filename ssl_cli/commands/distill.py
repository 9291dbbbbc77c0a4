"""`sslcli distill`: train a student to give a classifier's outputs on images without labels."""

from typing import Annotated, Any

import typer

from ssl_cli.commands import complete, options

EPILOG = options.examples(
    "A smaller network, on the teacher's own images: sslcli distill runs/classifier --student resnet18 --width 0.5",
    "On other images, which need no labels: sslcli distill runs/classifier photos/ --out runs/student",
    "The same network again: sslcli distill runs/classifier --temperature 0.1",
    "Half of the loss from labels: sslcli distill runs/classifier --alpha 0.5 --labels 10%",
    "Continue after an interruption: sslcli distill --resume --out runs/student",
)
Student = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The student's network (default: the teacher's)",
        autocompletion=complete.backbones,
        rich_help_panel=options.TRAINING,
    ),
]
StudentWidth = Annotated[
    float | None,
    typer.Option(metavar="W", help="The student's width (default: the teacher's)", rich_help_panel=options.TRAINING),
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", help="Divides both networks' logits (default: 1)", rich_help_panel=options.TRAINING),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        metavar="A",
        help="The teacher's part of the loss; labels have the rest (default: 1)",
        rich_help_panel=options.TRAINING,
    ),
]
StudentLabels = Annotated[
    str | None,
    typer.Option(
        metavar="L",
        help="With --alpha: 10%, 4-per-class, or FILE (default: as the teacher)",
        rich_help_panel=options.DATA,
    ),
]
Teacher = Annotated[
    str | None,
    typer.Argument(
        metavar="TEACHER",
        help="Run folder or checkpoint file of finetune or distill; absent with --resume.",
        autocompletion=complete.runs,
        show_default=False,
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA", help="Images, with or without labels. Absent: the teacher's own.", show_default=False
    ),
]


def distill(
    ctx: typer.Context,
    teacher: Teacher = None,
    data: Images = None,
    student: Student = None,
    width: StudentWidth = None,
    temperature: Temperature = None,
    alpha: Alpha = None,
    labels: StudentLabels = None,
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
    """Train a student to give the outputs of a fine-tuned run, on images without labels."""
    from ssl_cli.commands import training

    request = training.Request("distill", ctx.obj, devices, resume=resume, overwrite=overwrite, as_json=json)
    given = {**ctx.params, "backbone": student}
    own: dict[str, dict[str, Any]] = {
        "data": {"labels": labels},
        "method": {"temperature": temperature, "alpha": alpha},
    }
    names = {"model.backbone": "--student", "method.temperature": "--temperature"}
    names |= {"method.alpha": "--alpha", "data.labels": "--labels"}
    return training.start(
        request, teacher, given, sets=set_ or (), config=config, plan_alone=dry_run, own=own, names=names
    )
