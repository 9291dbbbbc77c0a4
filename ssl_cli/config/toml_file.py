"""TOML files of settings: read within limits, with the line of every value."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli.errors import UsageError
from ssl_cli.names import shown

_LARGEST_FILE = 1 << 20
"""Bytes. A settings file is a page or two; a larger one is a mistake, or hostile."""


@dataclass(frozen=True)
class TomlFile:
    """A settings file: the words that name it in messages, its values by dotted key, and its text."""

    name: str
    values: Mapping[str, Any]
    text: str

    def where(self, key: str) -> str:
        """Return in words the line that sets `a.b`, or that opens the table of which it is part."""
        section = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[+\s*([\w.-]+)\s*\]", line)
            named = re.match(r"\s*([\w.-]+)\s*=", line)
            section = f"{header[1]}." if header else section
            if (header and key == header[1]) or (named and f"{key}.".startswith(f"{section}{named[1]}.")):
                return f"line {number} of {self.name}"
        return self.name


def read_toml(path: Path, name: str = "") -> TomlFile:
    """Read the settings in a TOML file, which messages call `name`, or else by its path.

    Raises:
        UsageError: the file is missing, unreadable, too large or not TOML.
    """
    file = shown(str(path))
    hint = "Settings are lines such as batch = 256 below a header such as [run]."
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"The settings file {file} is larger than 1 MB.", f"Is it a settings file? {hint}")
        text = path.read_text(encoding="utf-8")
        return TomlFile(name or str(path), dict(flatten(tomllib.loads(text))), text)
    except OSError as error:
        raise UsageError(
            f"Cannot read the settings file {file}: {error.strerror or error}.", "Name a TOML file that you may read."
        ) from error
    except RecursionError as error:
        raise UsageError(f"The settings file {file} is nested too deeply.", hint) from error
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise UsageError(f"The settings file {file} is not TOML: {error}.", hint) from error


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of all that is not itself a table with entries."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables of values by dotted key."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        table = tables
        for parent in parents:
            if not isinstance(table.get(parent), dict):
                table[parent] = {}
            table = table[parent]
        table[name] = value
    return tables
