"""`sslcli inspect-augs`: show the augmented views that the network is trained on."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import complete, options
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.registry import OPS, SWEPT, did_you_mean

EPILOG = options.examples(
    "The embedded shapes, as pretraining sees them: sslcli inspect-augs",
    "Your images under MoCo v2: sslcli inspect-augs photos/ --method moco-v2 -o sheet.png",
    "How far one operation goes: sslcli inspect-augs photos/ --op jitter --images 2",
    "A change before it is trained with: sslcli inspect-augs --set augment.jitter.strength=1",
    "What was drawn, for a program: sslcli inspect-augs photos/ --images 1 --json",
)
PICTURE = "Picture"


complete_op = complete.among(SWEPT)
Images = Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Images, one a row.", rich_help_panel=PICTURE)]
Views = Annotated[
    int,
    typer.Option(metavar="N", min=1, max=64, help="Views of each, the first epoch's first.", rich_help_panel=PICTURE),
]
Op = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="One operation alone, low to high in --views steps.",
        autocompletion=complete_op,
        rich_help_panel=PICTURE,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The PNG to write.", rich_help_panel=options.OUTPUT)
]


def inspect_augs(
    ctx: typer.Context,
    data: options.Data = None,
    images: Images = 8,
    views: Views = 6,
    op: Op = None,
    gentle: options.Gentle = False,
    method: options.Method = None,
    image_size: options.ImageSize = None,
    seed: options.Seed = None,
    download: options.Download = None,
    group_by: options.GroupBy = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    output: Output = Path("augmentations.png"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Show the views that pretraining would make, in the terminal and as a PNG."""
    from ssl_cli.commands.preflight import picture
    from ssl_cli.config.sources import settle
    from ssl_cli.ui.sinks import present

    picture(output, "augmentations", images=data)
    if op is not None and op not in SWEPT:
        same = f"'{op}' has no strength to look at: it is the same for every view."
        raise UsageError(same if op in OPS else f"There is no operation '{shown(op)}'.", did_you_mean(op, SWEPT))
    from ssl_cli.data.places import require_data

    settled = settle(options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES, gentle=gentle)
    require_data(settled.settings.data)
    from ssl_cli.sheet import augmentation_sheet  # torch; only once the settings are known to be good

    events = augmentation_sheet(settled.settings, output, images, views, op=op)
    return present("inspect-augs", events, as_json=json)
