"""`sslcli doctor`: whether runs would work on this machine, and what is wrong."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.errors import DONE

EPILOG = options.examples(
    "Whether runs would work here: sslcli doctor",
    "On a GPU, and another disk: sslcli doctor --device cuda --out /scratch/runs",
    "For a report of a problem, or a program: sslcli doctor --json",
)
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Where runs would be written.", rich_help_panel=options.OUTPUT)
]  # fmt: skip


def doctor(
    device: options.Device = None, out: Out = Path("runs"), json: options.Json = False, debug: options.Debug = False
) -> int:
    """Check versions, device, cores, memory, disk, decoding, launcher and settings, in a few seconds.

    The exit code is 0 where runs would work, else the code that they would end with.
    """
    from ssl_cli.doctor.examine import examine  # torch; help must not wait for it
    from ssl_cli.ui.doctor import document, lines
    from ssl_cli.ui.sinks import print_result, write_json

    checks = list(examine(out, "auto" if device is None else device))
    if json:
        write_json(document(checks))
    else:
        print_result(lines(checks))
    return next((check.code for check in checks if check.code != DONE), DONE)
