"""`sslcli map`: images in two dimensions by the run's representation, as a picture or a page."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import complete, options
from ssl_cli.commands.embed import Images
from ssl_cli.commands.knn_eval import Feature, require_feature
from ssl_cli.maps.request import COLORS, ENDINGS, METHODS, MOST_POINTS, POINTS, Map, require_color, require_method

EPILOG = options.examples(
    "A page with a thumbnail at the pointer: sslcli map runs/photos photos/ -o map.html",
    "A picture by t-SNE: sslcli map runs/photos photos/ --by tsne -o map.png",
    "Coloured by the group of a list of images: sslcli map runs/cells cells.csv --color group -o map.html",
)
DRAWING = "Drawing"


Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="FILE.png or FILE.html.", rich_help_panel=options.OUTPUT),
]
By = Annotated[
    str,
    typer.Option(metavar="M", help="pca, tsne, umap.", autocompletion=complete.among(METHODS), rich_help_panel=DRAWING),
]
Color = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="label, group, none (default: what there is)",
        autocompletion=complete.among(COLORS),
        rich_help_panel=DRAWING,
    ),
]
Points = Annotated[
    int,
    typer.Option(
        metavar="N", min=2, max=MOST_POINTS, help="Images at most; of more, some by the seed.", rich_help_panel=DRAWING
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="Random seed.", rich_help_panel=DRAWING)
]  # fmt: skip


def draw_map(
    run: options.Run,
    output: Output,
    data: Images = None,
    by: By = "pca",
    color: Color = None,
    points: Points = POINTS,
    seed: Seed = 0,
    feature: Feature = "h",
    limit: options.Limit = None,
    download: options.Download = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Draw images in two dimensions: similar ones are near one another."""
    from ssl_cli.commands.preflight import evaluation, picture
    from ssl_cli.ui.sinks import present

    require_feature(feature)
    require_method(by)
    require_color(color)
    picture(output, "map", ENDINGS, data)
    hardware, machine = evaluation(run, data, None, device=device, download=download, method=method)
    from ssl_cli.maps.make import make_map  # imports torch: after the arguments are validated

    asked = Map(run, output, options.places(data), by, color, points, feature, seed)
    return present("map", make_map(asked, limit=limit, device=hardware, method=method, machine=machine), as_json=json)
