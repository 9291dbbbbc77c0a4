"""`sslcli data check`: look at images before training on them."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options, preflight
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import is_folder, shown
from ssl_cli.registry import did_you_mean

CHECK = "check"
EPILOG = options.examples(
    "What is in a folder, and what is wrong with it: sslcli data check photos/",
    "The oddest images as a picture: sslcli data check photos/ --sheet oddest.png",
    "All images of a large set: sslcli data check shards/ --sample 100000",
    "For a program: sslcli data check list.csv --json",
    "Whether pretrain would read it, by the exit code: sslcli data check photos/ && sslcli pretrain photos/",
)
What = Annotated[str, typer.Argument(metavar="WHAT", help=f"{CHECK}: scan and report.", autocompletion=lambda: [CHECK])]
Sample = Annotated[
    int,
    typer.Option(metavar="N", min=1, max=100_000, help="Images that are opened at most.", rich_help_panel=options.DATA),
]
Sheet = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="PNG to draw the oddest images in.", rich_help_panel=options.OUTPUT),
]


def data(
    ctx: typer.Context,
    what: What,
    data: options.Data = None,
    sample: Sample = 20_000,
    sheet: Sheet = None,
    test_data: options.TestData = None,
    group_by: options.GroupBy = None,
    download: options.Download = None,
    method: options.Method = None,
    time: options.Time = None,
    threads: options.Threads = None,
    device: options.Device = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Report sizes, numbers, copies, classes, bad files, and what pretrain would choose.

    The exit code is 0, or 3 where more than 5 % of the images and more than ten cannot be read, as for pretrain.
    """
    if what != CHECK:
        stands = f"Images stand second: sslcli data {CHECK} {shown(what)}" if is_folder(Path(what)) else ""
        raise UsageError(f"There is no 'sslcli data {shown(what)}'.", stands or did_you_mean(what, [CHECK]))
    if sheet is not None:
        preflight.picture(sheet, "odd", images=data)
    from ssl_cli.config.sources import settle
    from ssl_cli.data.places import require_data
    from ssl_cli.ui import check, report, sinks
    from ssl_cli.ui.stream import write_result

    settled = settle(options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES)
    require_data(settled.settings.data)
    from ssl_cli.data_check import check as scan  # imports torch: after the settings are validated

    screen = sinks.show("data", scan(settled.settings, sample, sheet))
    result = screen.results["check"]
    refused = check.refusal(result)
    if json:
        error = {"error": {"code": DataError.code, "message": refused[0], "hint": refused[1]}} if refused else {}
        sinks.write_json({**report.document("data", screen), **error})
        return DataError.code if refused else screen.exit_code
    sinks.print_result(check.lines(result))
    if refused:
        write_result("")
        raise DataError(*refused)
    return screen.exit_code
