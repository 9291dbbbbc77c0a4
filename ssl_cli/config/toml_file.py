"""TOML files of settings, read within limits, with the line of every value."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ssl_cli.disk import read_bytes
from ssl_cli.errors import UsageError
from ssl_cli.names import shown

PROJECT_FILE = "sslcli.toml"
"""Settings of all runs that are started in its folder."""
DEEPEST = 8
"""Largest nesting depth of lists, tables and dotted keys."""
_LONGEST_KEY = 200
_MOST_SETTINGS = 1000
"""Largest number of settings in a file; a run has a hundred, a user's own method may add some."""
_QUOTED = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|' r"'''.*?(?:'''|\Z)|" r'"(?:\\.|[^"\\\n])*"?|' r"'[^'\n]*'?|#[^\n]*", re.DOTALL
)
"""A string or a comment, also one without its end."""


@dataclass(frozen=True)
class TomlFile:
    """A settings file: the words that name it in messages, its values by dotted key, and its text."""

    name: str
    values: Mapping[str, Any]
    text: str

    def where(self, key: str) -> str:
        """Return the words for the line that sets `a.b`, or else for the header of the table that holds it."""
        parts = key.split(".")
        above = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        found = [self._lines[name] for name in (f"[{key}]", *above) if name in self._lines]
        return f"line {min(found)} of {self.name}" if found else self.name

    @cached_property
    def _lines(self) -> Mapping[str, int]:
        """The first line of each `a.b = ...` under its dotted key, and of each header under `[a.b]`."""
        found: dict[str, int] = {}
        section = ""
        for number, line in enumerate(self.text.split("\n"), 1):
            if header := re.match(r"\s*\[+\s*([\w.-]+)\s*\]", line):
                section = f"{header[1]}."
                found.setdefault(f"[{header[1]}]", number)
            elif named := re.match(r"\s*([\w.-]+)\s*=", line):
                found.setdefault(f"{section}{named[1]}", number)
        return found


def read_toml(path: Path, name: str = "") -> TomlFile:
    """Read the settings in a TOML file, which messages call `name`, or else by its path.

    Raises:
        UsageError: the file is missing, unreadable, too large or not TOML.
    """
    file = shown(str(path))
    hint = "Settings are lines such as batch = 256 below a header such as [run]."
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UsageError(
            f"Cannot read the settings file {file}: {error.strerror or error}.", "Name a TOML file that you may read."
        ) from error
    except ValueError as error:
        raise UsageError(f"Cannot read the settings file {file}: {error}.", f"Is it a settings file? {hint}") from error
    try:
        text = data.decode("utf-8-sig")
        values = dict(flatten(parse_toml(text)))
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise UsageError(f"The settings file {file} is not TOML: {error}.", hint) from error
    if len(values) > _MOST_SETTINGS:
        raise UsageError(f"The settings file {file} holds {len(values):,} settings.", f"Is it a settings file? {hint}")
    if odd := next((key for key in values if not is_name(key)), None):
        raise UsageError(f"There is no setting '{shown(odd)}' (from {file}).", hint)
    return TomlFile(name or str(path), values, text)


def is_name(key: str) -> bool:
    """Return whether a setting, also one of a user's own method, may have this dotted key."""
    return len(key) <= _LONGEST_KEY and key.count(".") < DEEPEST and key.isprintable()


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML in a time that grows with its length; `tomllib` takes the square of the number of dots in a key.

    Raises:
        ValueError: not TOML, or keys or values that are nested too deeply.
    """
    bare = re.split(r"[\n=,\[\]{}]", _QUOTED.sub("", text))
    if max(part.count(".") for part in bare) >= DEEPEST:
        raise ValueError("a key has too many dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every leaf: of all but tables with entries."""
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
