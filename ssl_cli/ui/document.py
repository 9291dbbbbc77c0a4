"""Write the result of a command of several runs."""

from collections.abc import Iterable, Mapping

from ssl_cli.events import SCHEMA
from ssl_cli.ui.sinks import write_json
from ssl_cli.ui.stream import write_result


def write_document(command: str, document: Mapping[str, object], lines: Iterable[str], *, as_json: bool) -> None:
    """Write a result to stdout: as one JSON document with the command's name, or as lines for people.

    Raises:
        ResourceError: as `write_result`.
    """
    if as_json:
        write_json({"schema": SCHEMA, "command": command, **document})
    else:
        write_result("".join(f"{line}\n" for line in lines))
