"""`sslcli embed`: a vector for each image, in a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.commands.knn_eval import Feature, require_feature

EPILOG = options.examples(
    "A row for each image, and their paths: sslcli embed runs/photos photos/ -o vectors.npy",
    "For search by cosine, in half the space: sslcli embed runs/photos photos/ --l2 --half -o vectors.safetensors",
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
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write a vector for each image: the run's representation h, or its embedding z."""
    from ssl_cli.commands.preflight import evaluation
    from ssl_cli.vectors.request import check

    require_feature(feature)
    check(output)
    hardware, machine = evaluation(run, data, None, device=device, download=download, method=method, group_by=group_by)
    from ssl_cli.ui.sinks import present
    from ssl_cli.vectors.embed import embed as make  # imports torch: after the arguments are validated

    events = make(
        run, output, options.places(data), feature=feature, l2=l2, half=half, limit=limit, device=hardware,
        method=method, machine=machine,
    )  # fmt: skip
    return present("embed", events, as_json=json)
