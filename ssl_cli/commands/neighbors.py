"""`sslcli neighbors`: the images of a set that are nearest to one, or near-duplicates in it."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.commands.embed import SetData
from ssl_cli.commands.knn_eval import Feature, require_feature
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import expanded, is_folder, shown

EPILOG = options.examples(
    "Nearest among the run's own images: sslcli neighbors runs/photos cat.jpg",
    "Among others, with a picture: sslcli neighbors runs/photos cat.jpg --data archive/ --sheet cat.png",
    "At once, from a file of sslcli embed: sslcli neighbors runs/photos cat.jpg --vectors vectors.npy",
    "Near-duplicates of a set: sslcli neighbors runs/photos --duplicates --above 0.99",
)
SEARCH = "Search"
Image = Annotated[
    str | None,
    typer.Argument(metavar="IMAGE", help="An image file, or the name of one in the set.", show_default=False),
]
Vectors = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Rows that sslcli embed wrote of this run.", rich_help_panel=options.DATA),
]
K = Annotated[
    int | None,
    typer.Option(
        "--k", "-k", metavar="N", min=1, max=10_000, help="Neighbours of IMAGE (default: 10)", rich_help_panel=SEARCH
    ),
]
Duplicates = Annotated[
    bool,
    typer.Option("--duplicates", metavar=options.SWITCH, help="List near-duplicate pairs.", rich_help_panel=SEARCH),
]
Above = Annotated[
    float | None,
    typer.Option(
        metavar="S", min=-1, max=1, help="Cosine similarity of duplicates (default: 0.98)",
        rich_help_panel=SEARCH,
    ),
]  # fmt: skip
Sheet = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A PNG of what was found.", rich_help_panel=options.OUTPUT)
]
ABOVE, NEAREST = 0.98, 10


def neighbors(
    run: options.Run,
    image: Image = None,
    data: SetData = None,
    vectors: Vectors = None,
    k: K = None,
    duplicates: Duplicates = False,
    above: Above = None,
    feature: Feature = "h",
    limit: options.Limit = None,
    download: options.Download = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    sheet: Sheet = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Find the images most similar to one by the run's encoder, or near-duplicate pairs; exact."""
    from ssl_cli.commands.preflight import evaluation, picture
    from ssl_cli.ui.sinks import present
    from ssl_cli.vectors.request import Search, require_stored

    require_feature(feature)
    if duplicates == (image is not None):
        hint = "sslcli neighbors RUN IMAGE, or sslcli neighbors RUN --duplicates"
        raise UsageError("Give an IMAGE, or --duplicates for pairs within the set.", hint)
    if above is not None and not duplicates:
        raise UsageError("--above is for --duplicates.", "Leave it out; -k says how many neighbours.")
    if k is not None and duplicates:
        raise UsageError("-k is for an IMAGE: --duplicates lists all pairs.", "Leave it out; --above gives fewer.")
    if image is not None and is_folder(expanded(image)):
        raise DataError(f"{shown(image)} is a folder, not an image.", "Give a file; --data says among which images.")
    if vectors is not None and (data or limit is not None):
        what = "--vectors holds the rows of its own images, so neither --data nor --limit applies."
        raise UsageError(what, "Leave them out.")
    if sheet is not None:
        picture(sheet, images=data)
    if vectors is not None:
        require_stored(vectors)
    hardware, machine = evaluation(run, data, None, device=device, download=download, method=method)
    from ssl_cli.vectors.neighbors import duplicates as pairs  # torch; only once the arguments are known to be good
    from ssl_cli.vectors.neighbors import neighbors as nearest

    asked = Search(
        run, options.places(data), vectors, feature, limit, sheet, device=hardware, method=method, machine=machine
    )
    if image is None:
        events = pairs(asked, ABOVE if above is None else above)
    else:
        events = nearest(asked, image, NEAREST if k is None else k)
    return present("neighbors", events, as_json=json)
