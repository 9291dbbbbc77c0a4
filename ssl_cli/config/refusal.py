"""Convert pydantic's validation errors to a `UsageError`: setting, value, origin, what it must be, and a hint."""

import difflib
import re
import reprlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ssl_cli.config.methods import method_settings
from ssl_cli.config.tree import leaves
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.registry import closest

if TYPE_CHECKING:
    from ssl_cli.config.sources import Source

ENV = "SSLCLI_"
_UNKNOWN, _NO_TABLE = "extra_forbidden", "model_type"


def env_name(key: str) -> str:
    """Return the environment variable that sets `a.b`."""
    return f"{ENV}{key.upper().replace('.', '__')}"


def refusal(error: ValidationError, sources: "Sequence[Source]") -> UsageError:
    """Return the error about the first unknown name, or else about the first refused value.

    Args:
        error: pydantic's errors of the settings tree.
        sources: the sources of its values, those of the highest precedence first.
    """
    method = next((source.values["method.name"] for source in sources if "method.name" in source.values), "")
    known = leaves(method_settings(str(method)))
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] not in (_UNKNOWN, _NO_TABLE))
    keys = [_key(detail, known) for detail in details]
    key, kind = keys[0], details[0]["type"]
    found = ((given, source) for source in sources for given in source.values if f"{given}.".startswith(f"{key}."))
    given, source = next(found)  # the first source that gives the setting, or one in its table
    origin = source.origins[given]
    if kind == _UNKNOWN:
        return unknown(given, origin, list(known))
    inside = next((other for other in known if other.startswith(f"{key}.")), "")
    if kind == _NO_TABLE and inside:
        message = f"'{key}' is a table of settings, not a value (from {origin})."
        return UsageError(message, f"Set one of it, such as {inside}.")
    same_key = [detail for detail, of in zip(details, keys, strict=True) if of == key]
    rule, *tip = re.split(r"\. (?=Did you mean |Known: )", " or ".join(map(_reason, same_key)))
    rule = rule.replace(" or it should be ", " or ")
    rule += f" (and {len(set(keys)) - 1} more)" if len(set(keys)) > 1 else ""
    value = same_key[0]["input"] if given != key else source.values[key]
    words = re.findall(r"'([^']+)'", " ".join(str(detail.get("ctx", {}).get("expected", "")) for detail in same_key))
    meant = closest(value, words) if isinstance(value, str) else None
    hint = f"Did you mean '{meant}'?" if meant else source.remedy.format(origin=origin, key=given)
    what = f"{key} = {reprlib.repr(value)}" if key in known else f"The combination of settings in '{shown(key)}'"
    return UsageError(f"{what} (from {origin}) is refused: {rule}.", tip[0] if tip else hint)


def unknown(key: str, origin: str, known: Sequence[str]) -> UsageError:
    """Return the error about an unknown setting; it suggests one of that name, the closest, or all near it."""
    section, _, name = key.rpartition(".")
    elsewhere = [other for other in known if other.rpartition(".")[2] == name]
    close = difflib.get_close_matches(key, elsewhere or known, n=1, cutoff=0.0 if elsewhere else 0.6)
    near = [other for other in known if section and other.startswith(f"{section}.")]
    hint = f"Known: {', '.join(near or sorted({other.partition('.')[0] for other in known}))}."
    if close:
        hint = f"Did you mean '{env_name(close[0]) if origin.startswith(ENV) else close[0]}'?"
    return UsageError(f"There is no setting '{shown(key)}' (from {origin}).", hint)


def _key(detail: ErrorDetails, known: Collection[str]) -> str:
    """Return the setting that pydantic refuses; behind it in `loc` may stand an index of a list or a union's member."""
    parts = [str(part) for part in detail["loc"]]
    keys = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((key for key in keys if key in known), keys[0])


def _reason(detail: ErrorDetails) -> str:
    """Return pydantic's message as the end of our sentence."""
    message = re.sub(r"^Value error, ", "", detail["msg"]).split(", unable to")[0].rstrip(".")
    return re.sub(r"^Input should", "it should", shown(message))
