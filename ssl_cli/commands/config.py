"""`sslcli config show|init`: the settings in force and where they come from; a file of settings to start from."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.config.toml_file import PROJECT_FILE as FILE
from ssl_cli.errors import UsageError
from ssl_cli.names import is_folder, is_there, shown
from ssl_cli.registry import did_you_mean
from ssl_cli.ui.stream import write_result

if TYPE_CHECKING:
    from ssl_cli.config.sources import Settled

EPILOG = options.examples(
    "What pretrain would take, and from where: sslcli config show photos/ --origin",
    "The paper's settings as a file: sslcli config show photos/ --method moco-v2 --recipe imagenet > moco.toml",
    "A commented sslcli.toml in this folder: sslcli config init",
    "One that sets what is given here: sslcli config init --method moco-v2 --set optim.weight_decay=1e-5",
)
SHOW, INIT = "show", "init"
What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help=f"{SHOW}: print the settings in force; {INIT}: write a file of them.",
        autocompletion=lambda: [SHOW, INIT],
    ),
]
Origin = Annotated[
    bool,
    typer.Option("--origin", metavar=options.SWITCH, help="Say where each comes from.", rich_help_panel=options.OUTPUT),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help=f"The file of {INIT} (default: ./{FILE})",
        rich_help_panel=options.OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", metavar=options.SWITCH, help="Replace a file that is there.", rich_help_panel=options.OUTPUT
    ),
]


def config(
    ctx: typer.Context,
    what: What,
    data: options.Data = None,
    method: options.Method = None,
    gentle: options.Gentle = False,
    backbone: options.Backbone = None,
    width: options.Width = None,
    batch: options.BatchSize = None,
    epochs: options.Epochs = None,
    image_size: options.ImageSize = None,
    lr: options.Lr = None,
    seed: options.Seed = None,
    time: options.Time = None,
    device: options.Device = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    origin: Origin = False,
    output: Output = None,
    force: Force = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Print the settings that pretrain would take, or write a file of settings to start from."""
    if what not in (SHOW, INIT):
        raise UsageError(f"There is no 'sslcli config {shown(what)}'.", did_you_mean(what, (SHOW, INIT)))
    if what == SHOW and (force or output is not None):
        raise UsageError(f"--force and -o are for sslcli config {INIT}.", f"To a file: sslcli config {SHOW} > {FILE}")
    if what == INIT and origin:
        raise UsageError(f"--origin is for sslcli config {SHOW}.", "Leave it out.")
    from ssl_cli.config.sources import settle

    target = Path(FILE) if output is None else output
    if what == INIT:
        _refuse(target, force=force)
    settled = settle(
        options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES, gentle=gentle,
        cwd=Path(os.devnull) if what == INIT else None,  # a file that is replaced is not read
    )  # fmt: skip
    if data:
        from ssl_cli.data.places import require_data

        # a named set may be on another machine, or be downloaded later
        require_data(settled.settings.data.model_copy(update={"download": True}))
    return _show(settled, origin=origin, as_json=json) if what == SHOW else _init(settled, target, as_json=json)


def _show(settled: "Settled", *, origin: bool, as_json: bool) -> int:
    from ssl_cli.config.listing import lines_of, shown_settings

    lines = lines_of(settled)
    if as_json:
        from ssl_cli.ui.sinks import write_json

        found = {line.key: {"value": line.value, "origin": line.origin, "planned": line.planned} for line in lines}
        write_json({"schema": 1, "command": "config", "settings": found})
    else:
        write_result("".join(f"{line}\n" for line in shown_settings(lines, origin=origin)))
    return 0


def _init(settled: "Settled", target: Path, *, as_json: bool) -> int:
    from ssl_cli import disk
    from ssl_cli.config.listing import template

    typed = {*options.FLAG_NAMES.values(), "--set", "--gentle"}
    given = sorted(key for key, origin in settled.origins.items() if origin in typed)
    disk.write_bytes(target, template(settled, given).encode("utf-8", "surrogateescape"))
    if as_json:
        from ssl_cli.ui.sinks import write_json

        write_json({"schema": 1, "command": "config", "path": str(target), "set": given})
        return 0
    name = shown(str(target))
    sets = f"sets {', '.join(given)}; every other setting" if given else "is written; every setting"
    write_result(f"{name} {sets} is a comment in it, with its value as it is now.\n")
    in_force = f"sslcli config {SHOW} --origin" if target == Path(FILE) else f"sslcli pretrain DATA --config {name}"
    write_result(f"next       {in_force}\n")
    return 0


def _refuse(target: Path, *, force: bool) -> None:
    """Refuse a file that is there, unless it may be replaced, and a place for none.

    Raises:
        UsageError: one of these.
    """
    name = shown(str(target))
    if is_folder(target):
        raise UsageError(f"{name} is a folder.", f"Name a file in it: -o {shown(str(target / FILE))}.")
    if target.suffix.lower() != ".toml":
        raise UsageError(f"{name} would not be a TOML file.", "Give -o a name that ends in .toml.")
    if not is_folder(target.parent):
        raise UsageError(f"There is no folder {shown(str(target.parent))}.", "Create it first.")
    if not force and (is_there(target) or target.is_symlink()):
        raise UsageError(f"{name} is there already.", "Replace it with --force, or give another -o.")
