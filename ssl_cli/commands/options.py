"""Declare the options that commands share: name and help; `config/flags.py` has the setting that each one gives.

Every default is None, and the help states the real one as text: only what was typed may override a file.
"""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ssl_cli.commands import complete
from ssl_cli.config.flags import FLAG_NAMES as FLAG_NAMES
from ssl_cli.config.flags import SETTINGS as SETTINGS
from ssl_cli.config.flags import flags as flags
from ssl_cli.config.flags import places as places
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, FAMILIES, METHODS, TRACKERS


def examples(*lines: str) -> str:
    """Worked examples for the end of a command's help; each is a sentence, `: `, and a command line."""
    parts = ["[bold]Examples[/bold]"]
    for line in lines:
        what, _, command = line.partition(": ")
        parts.append(f"[dim]{what}:[/dim]\n  {command}")
    return "\n\n".join(parts)


def switches(params: list[Any]) -> list[Any]:
    """Show flags without typer's <bool>, and several arguments without <list[str]>; return the parameters."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = SWITCH
        if getattr(param, "nargs", 1) == -1:
            param.display_type = lambda ctx: "<str>..."  # typer's own would show <list[str]>
    return params


def finite(value: float) -> float:
    """Return the number.

    Raises:
        typer.BadParameter: it is nan or infinite.
    """
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


SWITCH = " "  # typer would write <bool> behind a flag that takes no value
DATA, TRAINING, SCORE = "Data", "Training", "Score"
HARDWARE, OUTPUT, SETTING = "Hardware", "Output", "Settings"

Data = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        help="Folders of images at any depth, lists (.txt .csv .jsonl .parquet, - for stdin), archives (.zip .tar), or "
        "NAME[:SPLIT] of a torchvision data set. Absent: the embedded shapes.",
        show_default=False,
    ),
]
EvalData = Annotated[
    list[str] | None, typer.Argument(metavar="DATA", help="Labelled images. Absent: the run's own.", show_default=False)
]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Run folder, or a checkpoint file.", autocompletion=complete.runs)
]
StartRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Run folder or checkpoint file to start from; absent with --resume.",
        autocompletion=complete.runs,
        show_default=False,
    ),
]
LabelledData = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        help="Folder of images, one folder a class, or NAME of a torchvision data set. Absent: the run's own.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="L", help="10%, 4-per-class, or FILE of paths, or CSV (default: 100%)", rich_help_panel=DATA),
]
TestData = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Test images, as DATA (default: DATA's, or split off)", rich_help_panel=DATA),
]
Download = Annotated[
    bool | None,
    typer.Option("--download", metavar=SWITCH, help="Allow to download data, weights.", rich_help_panel=DATA),
]
OnBadImage = Annotated[
    str | None,
    typer.Option(
        metavar="skip|fail",
        help="An image that cannot be read (default: skip, up to 10 or 5 %)",
        autocompletion=complete.bad_images,
        hidden=True,
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(metavar="P", help="Group of an image by its path: '{parent}' or a regular expression", hidden=True),
]
SplitBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="P",
        help="Split in whole groups: '{parent}', or a regular expression on paths (default: as trained)",
        rich_help_panel=DATA,
    ),
]
Threads = Annotated[int | None, typer.Option(metavar="N", help="Decode threads (default: all processors)", hidden=True)]
ImageSize = Annotated[
    int | None, typer.Option(metavar="N", help="Side of a view in pixels (default: by --time)", rich_help_panel=DATA)
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=10**9, help="First N images of each class (default: as trained)", rich_help_panel=DATA
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(sorted(METHODS))}, or file.py:Class (default: simclr)",
        autocompletion=complete.methods,
        rich_help_panel=TRAINING,
    ),
]
Gentle = Annotated[
    bool,
    typer.Option(
        "--gentle", metavar=SWITCH, help="Larger crops, no flip, less colour jitter.", rich_help_panel=TRAINING
    ),
]
RunMethod = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The run's file.py:Class, to allow its import.", rich_help_panel=SETTING),
]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines",
        metavar=SWITCH,
        help="Also raw pixels, and the same network untrained.",
        rich_help_panel=SCORE,
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join((*BACKBONES, *(f'{library}:NAME' for library in BACKBONE_LIBRARIES)))} (default: recipe)",
        autocompletion=complete.backbones,
        rich_help_panel=TRAINING,
    ),
]
Width = Annotated[
    float | None, typer.Option(metavar="W", help="Width multiplier (default: by --time)", rich_help_panel=TRAINING)
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Start from a run's weights, or those in a FILE (default: random)",
        autocompletion=complete.runs,
        rich_help_panel=TRAINING,
    ),
]
Pretrained = Annotated[
    bool | None,
    typer.Option("--pretrained", metavar=SWITCH, help="Start from the library's weights of --backbone.", hidden=True),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Images per step, at any memory (default: by --time)", rich_help_panel=TRAINING),
]
Epochs = Annotated[
    float | None,
    typer.Option(metavar="N", help="Passes over the images (default: by --time)", rich_help_panel=TRAINING),
]
Lr = Annotated[
    float | None,
    typer.Option(metavar="X", help="Peak learning rate, for any batch (default: recipe)", rich_help_panel=TRAINING),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Random seed (default: 0)", rich_help_panel=TRAINING)]
Time = Annotated[
    str | None,
    typer.Option(metavar="T", help="End, complete, after 20m, 2h (default: by images)", rich_help_panel=TRAINING),
]
MaxTime = Annotated[
    str | None,
    typer.Option(metavar="T", help="Stop training, resumable, after 90s or 2h.", rich_help_panel=TRAINING),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="D",
        help="cpu, cuda, mps (default: auto)",
        autocompletion=complete.devices,
        rich_help_panel=HARDWARE,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        help="fp32, bf16 (default: auto)",
        autocompletion=complete.precisions,
        hidden=True,
    ),
]
Compile = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="torch.compile: on, off, graphs (default: auto, a rule)",
        autocompletion=complete.compilations,
        hidden=True,
    ),
]
MicroBatch = Annotated[
    int | None, typer.Option(metavar="N", help="Rows at once: memory only (default: auto)", hidden=True)
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="M", help="Budget a process, like 4GB (default: auto)", hidden=True),
]
Devices = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=1024, help="GPUs or processes for one step (default: 1)", rich_help_panel=HARDWARE
    ),
]
Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="Run folder (default: runs/<time>-<method>)", rich_help_panel=OUTPUT)
]
Resume = Annotated[
    bool, typer.Option("--resume", metavar=SWITCH, help="Continue the run in --out.", rich_help_panel=OUTPUT)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar=SWITCH, help="Replace the run in --out.", rich_help_panel=OUTPUT)
]
Tracker = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(TRACKERS)}; repeatable (default: none)",
        autocompletion=complete.among(TRACKERS),
        hidden=True,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", metavar=SWITCH, help="One JSON document on stdout.", rich_help_panel=OUTPUT)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", metavar=SWITCH, help="Print the plan, train nothing.", rich_help_panel=OUTPUT)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", hidden=True)]  # `sslcli --help` names it
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="R",
        help=f"{', '.join(FAMILIES)}, or FILE (default: own for DATA)",
        autocompletion=complete.recipes,
        rich_help_panel=SETTING,
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file of settings.", rich_help_panel=SETTING)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting; repeatable.", rich_help_panel=SETTING),
]
