"""`sslcli embed`: a vector for each image, in a file for other programs."""

from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.commands.knn_eval import Feature, require_feature
from ssl_cli.errors import DONE
from ssl_cli.world import world

EPILOG = options.examples(
    "A row for each image, and their paths: sslcli embed runs/photos photos/ -o vectors.npy",
    "For search by cosine, in half the space: sslcli embed runs/photos photos/ --l2 --half -o vectors.safetensors",
    "On two GPUs, or in two processes: sslcli embed runs/photos photos/ --devices 2 -o vectors.npy",
    "A table with path, label and vector: sslcli embed runs/photos photos/ -o vectors.csv",
    "With a column group: sslcli embed runs/photos photos/ --group-by '{parent}' -o vectors.csv",
)
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="FILE.npy, .csv, .parquet or .safetensors; the same command continues after a stop.",
        rich_help_panel=options.OUTPUT,
    ),
]
Images = Annotated[
    list[str] | None, typer.Argument(metavar="DATA", help="Images. Absent: the run's own.", show_default=False)
]
SetData = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="DATA", help="Images; repeatable (default: the run's own)", rich_help_panel=options.DATA
    ),
]
L2 = Annotated[
    bool,
    typer.Option("--l2", metavar=options.SWITCH, help="Divide rows by their length.", rich_help_panel=options.OUTPUT),
]
Devices = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=1024, help="GPUs or processes (default: 1)", rich_help_panel=options.HARDWARE),
]
Half = Annotated[
    bool, typer.Option("--half", metavar=options.SWITCH, help="Write float16.", rich_help_panel=options.OUTPUT)
]

GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="P",
        help="Write the group, too: '{parent}', or a regular expression on paths (default: as trained)",
        rich_help_panel=options.OUTPUT,
    ),
]


def embed(
    ctx: typer.Context,
    run: options.Run,
    output: Output,
    data: Images = None,
    feature: Feature = "h",
    l2: L2 = False,
    half: Half = False,
    limit: options.Limit = None,
    group_by: GroupBy = None,
    download: options.Download = None,
    device: options.Device = None,
    devices: Devices = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write a vector for each image: the run's representation h, or its embedding z."""
    from ssl_cli.commands.preflight import evaluation, ranks
    from ssl_cli.config.images import refuse_among_images
    from ssl_cli.vectors.request import check

    require_feature(feature)
    check(output)
    refuse_among_images(output, *(data or ()))
    ranks(devices, data or ())
    hardware, machine = evaluation(run, data, None, device=device, download=download, method=method, group_by=group_by)
    if devices is not None and devices > 1 and world().size == 1:
        from ssl_cli.engine.workers.launch import launch

        return launch(ctx.obj, devices, device=hardware, out=output)
    from ssl_cli.ui.sinks import present
    from ssl_cli.vectors.embed import embed as make  # imports torch: after the arguments are validated

    events = make(
        run, output, options.places(data), feature=feature, l2=l2, half=half, limit=limit, device=hardware,
        method=method, machine=machine,
    )  # fmt: skip
    if not world().is_rank_zero:
        deque(events, maxlen=0)
        return DONE
    return present("embed", events, as_json=json)
