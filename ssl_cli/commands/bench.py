"""`sslcli bench`: measure how fast a run would be here, what bounds it, and which setting would help."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import complete, options
from ssl_cli.errors import UsageError
from ssl_cli.names import is_folder, shown
from ssl_cli.registry import BENCHES, did_you_mean

EPILOG = options.examples(
    "All parts of the default run, in about a minute: sslcli bench",
    "Of a run on your images, as you would start it: sslcli bench all photos/ --method moco-v2 --batch 512",
    "The optimiser step alone, in another precision: sslcli bench step --precision fp32",
    "For a program: sslcli bench loader photos/ --json",
)
ALL = "all"
What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT", help=f"{', '.join(BENCHES)}, or {ALL}.", show_default=True, autocompletion=complete.benches
    ),
]


def bench(
    ctx: typer.Context,
    what: What = ALL,
    data: options.Data = None,
    method: options.Method = None,
    backbone: options.Backbone = None,
    width: options.Width = None,
    batch: options.BatchSize = None,
    epochs: options.Epochs = None,
    image_size: options.ImageSize = None,
    download: options.Download = None,
    threads: options.Threads = None,
    device: options.Device = None,
    precision: options.Precision = None,
    micro_batch: options.MicroBatch = None,
    memory: options.Memory = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Measure the parts of a run against this machine's limits and plain PyTorch, and advise."""
    if what not in (*BENCHES, ALL):
        is_data = f"Images stand second: sslcli bench {ALL} {shown(what)}" if is_folder(Path(what)) else ""
        raise UsageError(f"There is no benchmark '{shown(what)}'.", is_data or did_you_mean(what, (*BENCHES, ALL)))
    from ssl_cli.config.sources import settle
    from ssl_cli.data.places import require_data
    from ssl_cli.ui.sinks import present

    settled = settle(options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES)
    require_data(settled.settings.data)
    from ssl_cli.bench.measure import bench as measure  # imports torch: after the settings are validated

    return present("bench", measure(settled.settings, what), as_json=json)
