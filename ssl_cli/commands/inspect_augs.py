"""`sslcli inspect-augs`: a picture of what the network will see."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options

EPILOG = options.examples(
    "The embedded shapes: sslcli inspect-augs -o sheet.png",
    "Your images under MoCo v2: sslcli inspect-augs photos/ --method moco-v2 -o sheet.png",
    "A change before it is trained with: sslcli inspect-augs -o sheet.png --set augment.jitter.strength=1",
)
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The PNG to write.")]
Images = Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Images, one a row.")]
Views = Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Views of each image.")]


def inspect_augs(
    ctx: typer.Context,
    output: Output,
    data: options.Data = None,
    images: Images = 8,
    views: Views = 6,
    method: options.Method = None,
    image_size: options.ImageSize = None,
    seed: options.Seed = None,
    download: options.Download = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Save a picture of the views that pretraining would make."""
    from ssl_cli.config.sources import settle
    from ssl_cli.ui.sinks import present

    settled = settle(options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES)
    from ssl_cli.engine.augmentations import augmentation_sheet  # torch; only once the settings are known to be good

    sheet = (augmentation_sheet(settled.settings, output, images, views) for _ in range(1))  # drawn under the display
    return present("inspect-augs", sheet, as_json=json)
