"""One layer of settings: a table of values that all come from one place, checked against the tree's names."""

import difflib
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ssl_cli.config.branch import Branch
from ssl_cli.config.tree import CustomMethodSettings, MethodSettings, Settings
from ssl_cli.errors import UsageError

ENV = "SSLCLI_"
_LARGEST_FILE = 1 << 20  # a settings file is a page or two; more is a mistake, or hostile
_LARGEST_NUMBER = 2**63


class Written(str):
    """A value as someone typed it, outside TOML: what it means depends on the setting it is for."""


@dataclass(frozen=True)
class Layer:
    """Settings as nested tables, and the words for where they come from."""

    origin: str
    table: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """The value at `a.b`, or None."""
        value: Any = self.table
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
        UsageError: the file is missing, unreadable, too large or not TOML.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"The settings file {path} is larger than 1 MB.", "Is it a settings file?")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the settings file {path}: {error.strerror or error}.") from error
    except RecursionError as error:
        raise UsageError(f"The settings file {path} is nested too deeply.") from error
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise UsageError(f"The settings file {path} is not TOML: {error}.") from error


def leaves(method: type[MethodSettings]) -> dict[str, FieldInfo]:
    """Every setting there is for this method, by its dotted key."""
    return dict(_leaves(Settings, method, ""))


def _leaves(branch: type[Branch], method: type[MethodSettings], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in branch.model_fields.items():
        kind = method if field.annotation is MethodSettings else field.annotation
        if isinstance(kind, type) and issubclass(kind, Branch):
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
    known = leaves(method)
    free = issubclass(method, CustomMethodSettings)
    return dict(_flatten(layer.table, "", layer.origin, known, free))


def _flatten(
    table: Mapping[str, Any], prefix: str, origin: str, known: Mapping[str, FieldInfo], free: bool
) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in known:
            yield key, _sane(key, _meaning(value, known[key].annotation), origin)
        elif any(other.startswith(f"{key}.") for other in known):
            inner = _meaning(value, None)
            if not isinstance(inner, Mapping):
                example = next(other for other in known if other.startswith(f"{key}."))
                raise UsageError(
                    f"'{key}' is a table of settings, not a value (from {origin}).",
                    f"Set one of it, such as {example}.",
                )
            yield from _flatten(inner, f"{key}.", origin, known, free)
        elif free and prefix == "method.":
            yield key, _sane(key, _meaning(value, None), origin)
        else:
            if isinstance(value, Mapping) and value:
                key = f"{key}.{next(iter(value))}"  # the section is wrong; name the setting that was meant
            raise UsageError(f"There is no setting '{key}' (from {origin}).", _suggestion(key, origin, known))


def _meaning(value: Any, annotation: Any) -> Any:
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


def _sane(key: str, value: Any, origin: str) -> Any:
    if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
        raise UsageError(f"{key} = {reprlib.repr(value)} (from {origin}) is too large a number.")
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
