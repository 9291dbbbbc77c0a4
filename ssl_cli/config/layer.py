"""One layer of settings: a table of values that all come from one place, checked against the tree's names."""

import difflib
import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ssl_cli.config.methods import CustomMethodSettings, MethodSettings
from ssl_cli.config.section import Section
from ssl_cli.config.tree import Settings
from ssl_cli.errors import UsageError
from ssl_cli.names import shown

ENV = "SSLCLI_"
_LARGEST_FILE = 1 << 20  # a settings file is a page or two; more is a mistake, or hostile
_LARGEST_NUMBER = 2**63


class Written(str):
    """A value as someone typed it, outside TOML: what it means depends on the setting it is for."""


@dataclass(frozen=True)
class Layer:
    """Settings as nested tables, the words for where they come from, and the text of the file if it is one."""

    origin: str
    table: Mapping[str, Any]
    text: str = ""

    def get(self, key: str) -> Any:
        """The value at `a.b`, or None."""
        value: Any = self.table
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def where(self, key: str) -> str:
        """Where `a.b` comes from, with its line in a file."""
        line = _line_of(self.text, key) if self.text else None
        return f"line {line} of {self.origin}" if line else self.origin

    def remedy(self, key: str) -> str:
        """What to do about a wrong `a.b`: the flag, variable or file to change."""
        if self.text:
            return f"Correct {self.where(key)}."
        if self.origin.startswith(ENV):
            return f"Give the variable {self.origin} another value, or unset it."
        if self.origin == "--set":
            return f"Give --set {key}=VALUE another value, or leave it out."
        if self.origin == "the command line":
            return f"Set it by --set {key}=VALUE, or {env_name(key)}."
        return f"Give {self.origin} another value, or leave it out."


def read_layer(path: Path, origin: str = "") -> Layer:
    """The settings in a TOML file; its origin is the file's name unless given.

    Raises:
        UsageError: the file is missing, unreadable, too large or not TOML.
    """
    name = shown(str(path))
    hint = "Settings are lines such as batch = 256 below a header such as [run]."
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"The settings file {name} is larger than 1 MB.", f"Is it a settings file? {hint}")
        text = path.read_text(encoding="utf-8")
        return Layer(origin or str(path), tomllib.loads(text), text)
    except OSError as error:
        raise UsageError(
            f"Cannot read the settings file {name}: {error.strerror or error}.", "Name a TOML file that you may read."
        ) from error
    except RecursionError as error:
        raise UsageError(f"The settings file {name} is nested too deeply.", hint) from error
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise UsageError(f"The settings file {name} is not TOML: {error}.", hint) from error


def _line_of(text: str, key: str) -> int | None:
    """The line of a TOML file that sets `a.b`, or that opens the table of which it is part."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.-]+)\s*\]", line):
            section = f"{header[1]}."
            if key == header[1]:
                return number
        elif (named := re.match(r"\s*([\w.-]+)\s*=", line)) and f"{key}.".startswith(f"{section}{named[1]}."):
            return number
    return None


def leaves(method: type[MethodSettings]) -> dict[str, FieldInfo]:
    """Every setting there is for this method, by its dotted key."""
    return dict(_leaves(Settings, method, ""))


def _leaves(branch: type[Section], method: type[MethodSettings], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in branch.model_fields.items():
        kind = method if field.annotation is MethodSettings else field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _leaves(kind, method, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables from dotted keys."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, name = key.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[name] = value
    return tables


def flatten(layer: Layer, method: type[MethodSettings]) -> dict[str, Any]:
    """The layer's values by dotted key.

    Raises:
        UsageError: a name that is no setting, a value where a table belongs, or a number beyond all sense.
    """
    free = issubclass(method, CustomMethodSettings)
    return dict(_flatten(layer.table, "", layer, leaves(method), free))


def _flatten(
    table: Mapping[str, Any], prefix: str, layer: Layer, known: Mapping[str, FieldInfo], free: bool
) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in known:
            yield key, _sane(key, meaning(value, known[key].annotation), layer)
        elif any(other.startswith(f"{key}.") for other in known):
            inner = meaning(value, None)
            if not isinstance(inner, Mapping):
                example = next(other for other in known if other.startswith(f"{key}."))
                raise UsageError(
                    f"'{key}' is a table of settings, not a value (from {layer.where(key)}).",
                    f"Set one of it, such as {example}.",
                )
            yield from _flatten(inner, f"{key}.", layer, known, free)
        elif free and prefix == "method.":
            yield key, _sane(key, meaning(value, None), layer)
        else:
            if isinstance(value, Mapping) and value:
                key = f"{key}.{next(iter(value))}"  # the section is wrong; name the setting that was meant
            raise UsageError(
                f"There is no setting '{key}' (from {layer.where(key)}).", _suggestion(key, layer.origin, known)
            )


def meaning(value: Any, annotation: Any) -> Any:
    """What a typed value stands for: text where the setting is text, else TOML, else text after all."""
    if not isinstance(value, Written):
        return value
    text = str(value)
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    meant = parsed["value"] if parsed.keys() == {"value"} else text
    if isinstance(meant, str) or (isinstance(meant, bool | int | float | list | dict) and not _is_text(annotation)):
        return meant
    return text


def _is_text(annotation: Any) -> bool:
    return annotation is str or annotation == (str | None)


def _sane(key: str, value: Any, layer: Layer) -> Any:
    if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
        number = reprlib.repr(value)
        raise UsageError(f"{key} = {number} (from {layer.where(key)}) is too large a number.", layer.remedy(key))
    if isinstance(value, str) and "\0" in value:  # no file can have such a name
        raise UsageError(f"{key} (from {layer.where(key)}) holds a zero byte.", layer.remedy(key))
    return value


def _suggestion(key: str, origin: str, known: Mapping[str, FieldInfo]) -> str:
    """A hint: the setting of that name elsewhere, the closest one, or those of the same table."""
    section, _, name = key.rpartition(".")
    elsewhere = [other for other in known if other.rpartition(".")[2] == name]
    close = difflib.get_close_matches(key, elsewhere or known, n=1, cutoff=0.0 if elsewhere else 0.6)
    if close:
        return f"Did you mean '{env_name(close[0]) if origin.startswith(ENV) else close[0]}'?"
    near = [other for other in known if other.startswith(f"{section}.")] if section else []
    return f"Known: {', '.join(near or sorted({other.partition('.')[0] for other in known}))}."


def env_name(key: str) -> str:
    """The environment variable of a setting: `SSLCLI_RUN__BATCH` of `run.batch`."""
    return ENV + key.upper().replace(".", "__")
